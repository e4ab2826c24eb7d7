"""Trains a tiny model on CPU and writes a checkpoint folder: `python -m prunesweep.dev.train_tiny out=FOLDER`.

`--config-name train_scenes` trains the one for `scenes`.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Literal

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from prunesweep.checks import require_choice
from prunesweep.cli.run import run_hydra
from prunesweep.paths import CONF
from prunesweep.sweep.schema import require_known_keys

ACCURACIES = "accuracies.jsonl"


def main() -> None:
    run_hydra(train)


@hydra.main(config_path=str(CONF), config_name="train_tiny", version_base="1.3")
def train(config: DictConfig) -> None:
    import lightning as L
    import torch
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.loggers import CSVLogger
    from lightning.pytorch.strategies import DDPStrategy

    from prunesweep.dev.curves import curves_figure
    from prunesweep.embedded.network import build_processor
    from prunesweep.embedded.training import AccuracyLog, SaveAtEnd, TinyTraining, TrainStage
    from prunesweep.embedded.worlds import WORLDS
    from prunesweep.sweep.ranks import OwnRanks, own_environment

    require_known_keys(config, HydraConfig.get(), HydraConfig.get().job.config_name)
    require_choice("logger.name", config.logger.name, Literal["wandb", "none"])
    out = Path(config.out)
    run = Path(f"{out}-run")
    shape = hydra.utils.instantiate(config.shape)
    videos: Any = OmegaConf.to_container(config.videos)
    planned: Any = OmegaConf.to_container(config.stages)
    stages = tuple(TrainStage(**stage, videos=videos) for stage in planned)
    module = TinyTraining(shape, stages, config.seed, WORLDS[config.world], config.start)
    last = run / "last.ckpt"
    if config.resume and not last.exists():
        raise SystemExit(f"prunesweep: nothing to resume: {last} does not exist; run without resume=true")
    if last.exists() and not config.resume:
        raise SystemExit(f"prunesweep: {last} exists; go on with resume=true, or choose another out=")
    trainer = L.Trainer(
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
    started = time.monotonic()
    steps = torch.utils.data.DataLoader(range(module.total_steps))
    with own_environment():
        trainer.fit(module, steps, ckpt_path=last if config.resume else None, weights_only=True)
    weights = torch.load(last, weights_only=True, map_location="cpu")["state_dict"]
    module.configure_model()
    module.load_state_dict(weights)
    module.network.set_attn_implementation("sdpa")
    module.network.save_pretrained(out)
    build_processor(shape, module.world.words).save_pretrained(out)
    summary = {
        "seed": config.seed,
        "start": config.start,
        "minutes_since_start_or_resume": round((time.monotonic() - started) / 60, 1),
        "steps": module.total_steps,
    }
    curves_figure(run / ACCURACIES).savefig(out / "curves.png", dpi=80)
    (out / "training.json").write_text(json.dumps(summary) + "\n", encoding="utf-8")
    print(f"trained {module.total_steps} steps in {summary['minutes_since_start_or_resume']} min: {out}")


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
