"""Trains a tiny model on CPU and writes a checkpoint folder: `python -m prunesweep.dev.train_tiny out=FOLDER`.

`--config-name train_scenes` trains the one for `scenes`.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from prunesweep.checks import require_choice
from prunesweep.cli.run import run_hydra
from prunesweep.paths import CONF
from prunesweep.sweep.schema import require_known_keys

if TYPE_CHECKING:
    from prunesweep.embedded.training import TinyTraining

ACCURACIES = "accuracies.jsonl"


def main() -> None:
    run_hydra(train)


@hydra.main(config_path=str(CONF), config_name="train_tiny", version_base="1.3")
def train(config: DictConfig) -> None:
    from prunesweep.dev.curves import curves_figure
    from prunesweep.sweep.ranks import own_environment

    require_known_keys(config, HydraConfig.get(), HydraConfig.get().job.config_name)
    require_choice("logger.name", config.logger.name, Literal["wandb", "none"])
    out = Path(config.out)
    run = Path(f"{out}-run")
    last = _checkpoint(run, config.resume)
    module = _module(config)
    trainer = _trainer(config, module, run, last)
    started = time.monotonic()
    with own_environment():
        trainer.fit(module, _steps(module), ckpt_path=last if config.resume else None, weights_only=True)
    _save(module, last, out)
    curves_figure(run / ACCURACIES).savefig(out / "curves.png")
    minutes = round((time.monotonic() - started) / 60, 1)
    summary = {"seed": config.seed, "start": config.start, "minutes_since_start_or_resume": minutes, "steps": module.total_steps}
    (out / "training.json").write_text(json.dumps(summary) + "\n", encoding="utf-8")
    print(f"trained {module.total_steps} steps in {minutes} min: {out}")


def _checkpoint(run: Path, resume: bool) -> Path:
    """The last one of this training; ends the command unless it is there exactly where it is wanted."""
    last = run / "last.ckpt"
    if resume and not last.exists():
        raise SystemExit(f"prunesweep: nothing to resume: {last} does not exist; run without resume=true")
    if last.exists() and not resume:
        raise SystemExit(f"prunesweep: {last} exists; go on with resume=true, or choose another out=")
    return last


def _module(config: DictConfig) -> TinyTraining:
    from prunesweep.embedded.training import TinyTraining, TrainStage
    from prunesweep.embedded.worlds import WORLDS

    videos: Any = OmegaConf.to_container(config.videos)
    planned: Any = OmegaConf.to_container(config.stages)
    stages = tuple(TrainStage(**stage, videos=videos) for stage in planned)
    return TinyTraining(hydra.utils.instantiate(config.shape), stages, config.seed, WORLDS[config.world], config.start)


def _steps(module: TinyTraining) -> Any:
    import torch

    return torch.utils.data.DataLoader(range(module.total_steps))


def _trainer(config: DictConfig, module: TinyTraining, run: Path, last: Path) -> Any:
    import lightning as L
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.loggers import CSVLogger
    from lightning.pytorch.strategies import DDPStrategy

    from prunesweep.embedded.training import AccuracyLog, SaveAtEnd
    from prunesweep.sweep.ranks import OwnRanks

    return L.Trainer(
        accelerator="cpu",
        plugins=[OwnRanks()],
        devices=config.processes,
        strategy=DDPStrategy(start_method="spawn", find_unused_parameters=True) if config.processes > 1 else "auto",
        precision="bf16-mixed",
        max_steps=module.total_steps,
        gradient_clip_val=1.0,
        use_distributed_sampler=False,
        log_every_n_steps=20,
        default_root_dir=run,
        logger=[CSVLogger(run, name="metrics", version=0), *_wandb(config, run)],
        callbacks=[
            ModelCheckpoint(run, save_last=True, save_top_k=0, every_n_train_steps=config.checkpoint_every),
            SaveAtEnd(last),
            AccuracyLog(run / ACCURACIES),
        ],
        enable_model_summary=False,
    )


def _save(module: TinyTraining, last: Path, out: Path) -> None:
    """Network and processor, as `from_pretrained` reads them."""
    import torch

    from prunesweep.embedded.network import build_processor

    weights = torch.load(last, weights_only=True, map_location="cpu")["state_dict"]
    module.configure_model()
    module.load_state_dict(weights)
    module.network.set_attn_implementation("sdpa")
    module.network.save_pretrained(out)
    build_processor(module.shape, module.world.words).save_pretrained(out)


def _wandb(config: DictConfig, run: Path) -> list[Any]:
    """Lightning's W&B logger, unless `logger=none`; a resumed training is a new W&B run of the same name."""
    if config.logger.name == "none":
        return []
    from lightning.pytorch.loggers import WandbLogger

    from prunesweep.report.wandb import mode, quiet

    run.mkdir(parents=True, exist_ok=True)
    settings = {"mode": mode(config.logger), "settings": quiet(), "job_type": "training"}
    return [WandbLogger(name=f"{config.world} seed {config.seed}", save_dir=run, project=config.logger.project, **settings)]


if __name__ == "__main__":
    main()
