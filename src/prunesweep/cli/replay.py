"""`prunesweep replay`: what searching and racing gained, from the folders that sweeps and searches left."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunesweep.cli.shared import COST, Verbs, sweep_folder
from prunesweep.paths import user_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prunesweep.search.curves import Curves

app = Verbs(
    "prunesweep replay race latest",
    help="Say what searching and racing gained, from the folders that sweeps and searches left; no model runs.",
)
Cost = Annotated[str, typer.Option(help="llm_flops_ratio, or another of analysis.cost.")]
Worst = Annotated[float, typer.Option(help="Cost up to which the area below the front counts.")]
Picture = Annotated[Path | None, typer.Option(parser=user_path, metavar="FILE", help="To draw to.")]
Seeds = Annotated[int, typer.Option(help="Of the sampler.")]


def _folder(text: str) -> typer.models.ArgumentInfo:
    return typer.Argument(parser=sweep_folder, metavar="FOLDER", help=text)


@app.command(example="prunesweep replay search GRID --samplers tpe,random")
def search(
    grid: Annotated[Path, _folder("Of a sweep over all combinations of some values.")],
    samplers: Annotated[str, typer.Option(help="Of conf/sampler, and grid for a coarse grid.")] = "tpe,nsga2,random,grid",
    seeds: Seeds = 3,
    trials: Annotated[int, typer.Option(help="Of each search.")] = 32,
    batch: Annotated[int, typer.Option(help="Proposed at once, as hydra.sweeper.batch.")] = 4,
    worst: Worst = 1.0,
    picture: Picture = None,
    cost: Cost = COST,
) -> None:
    """Search among a finished grid's trials, sampler by sampler and seed by seed."""
    from prunesweep.checks import require_at_least
    from prunesweep.search.curves import by_sampler
    from prunesweep.search.replay import read_grid, replay

    for name, value in (("--seeds", seeds), ("--trials", trials), ("--batch", batch)):
        require_at_least(name, value, 1)
    whole = read_grid(grid, cost)
    curves = [replay(whole, sampler, seed, trials, batch, worst) for sampler in samplers.split(",") for seed in range(seeds)]
    best = float(whole.curve(list(whole.found), worst)[-1])
    sizes = " x ".join(f"{len(values)} {key.rpartition('.')[2]}" for key, values in whole.values.items())
    print(f"{len(whole.found)} settings: {sizes}; a coarse grid has {len(whole.coarse(trials))} of them")
    _show(by_sampler(curves), best, f"searches among {len(whole.found)} settings\n{_against(cost)}", picture)


@app.command(example="prunesweep replay hypervolume SEARCH SEARCH --grid GRID")
def hypervolume(
    searches: Annotated[list[Path], _folder("Of finished searches.")],
    grid: Annotated[
        Path | None,
        typer.Option(parser=sweep_folder, metavar="FOLDER", help="Of a sweep over all settings: the best front there is."),
    ] = None,
    worst: Worst = 1.0,
    picture: Picture = None,
    cost: Cost = COST,
) -> None:
    """Say how good the front of finished searches is after so many trials, sampler by sampler."""
    from prunesweep.search.curves import by_sampler, read_curve, whole_volume

    groups = by_sampler([read_curve(folder, cost, worst) for folder in searches])
    best = whole_volume(grid, cost, worst) if grid else None
    _show(groups, best, f"searches: {_against(cost)}", picture)


@app.command(example="prunesweep replay race latest --rounds 10")
def race(
    sweep: Annotated[Path, _folder("Of a sweep without a race.")],
    rounds: Annotated[int, typer.Option(help="Looks at the results.")] = 10,
    alpha: Annotated[float, typer.Option(help="Largest chance to stop a trial that would end on the front.")] = 0.05,
    seeds: Annotated[int, typer.Option(help="Orders of the samples.")] = 3,
    cost: Cost = COST,
) -> None:
    """Race among the trials of a finished sweep: what that saves, and what of the front is kept."""
    from prunesweep.checks import require_at_least
    from prunesweep.results.read import read_source
    from prunesweep.search.savings import race_again, races_text, savings
    from prunesweep.sweep.racing import Race

    require_at_least("--rounds", rounds, 2)
    require_at_least("--seeds", seeds, 1)
    full = [trial for trial in read_source(sweep) if trial.info.stopped is None]
    if not full:
        raise ValueError(f"{sweep} holds no complete trials; name the folder of a sweep")
    races = [Race(rounds, alpha, seed, costs=(cost,)) for seed in range(seeds)]
    found = [savings(race_again(full, one), full, cost) for one in races]
    print(f"{found[0].trials} trials on {len(full[0].records)} samples, {rounds} rounds, alpha {alpha:g}")
    print(races_text(found, range(seeds)))


@app.command("savings", example="prunesweep replay savings RACED FULL")
def saved(
    raced: Annotated[Path, _folder("Of a sweep that raced.")],
    full: Annotated[Path, _folder("Of one that did not.")],
    cost: Cost = COST,
) -> None:
    """Say what a sweep that raced saved over one that did not."""
    from prunesweep.results.read import read_source
    from prunesweep.search.savings import savings, savings_text

    one, other = (list(read_source(folder)) for folder in (raced, full))
    if not one or not other:
        raise ValueError("a folder holds no trials; name the folders of two sweeps, the raced one first")
    print(savings_text(savings(one, other, cost), cost))


def _against(cost: str) -> str:
    """What a picture says of its axes."""
    from prunesweep.report.plots import column_name

    return f"accuracy against {column_name(cost)}"


def _show(groups: Sequence[Curves], best: float | None, title: str, picture: Path | None) -> None:
    from prunesweep.search.curves import volumes_figure, volumes_text

    print(volumes_text(groups, best))
    if picture:
        from prunesweep.report.style import save

        save(volumes_figure(groups, best, title), picture)
