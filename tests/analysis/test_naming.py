"""What people call trials and sweeps, and the folders that are meant."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from prunesweep.analysis.naming import sweep_called, trial_called
from prunesweep.analysis.wording import numbered
from prunesweep.results.folders import claim
from prunesweep.results.infeasible import Infeasible, all_infeasible, write_infeasible
from prunesweep.results.latest import begun, link_latest
from prunesweep.results.read import number, read_infos
from prunesweep.results.records import trial_folders, write_trial
from support.places import only_folder
from support.records import made, store_of

TRIALS = (
    ("none", "++++++++++", (8, 8), {}),
    ("prunevid keep_ratio=0.2", "+++++-----", (8, 1), {"prune": {"layer": 2, "keep_ratio": 0.2}}),
    ("prunevid keep_ratio=0.4", "++++++++--", (8, 3), {"prune": {"layer": 2, "keep_ratio": 0.4}}),
    ("prunevid keep_ratio=0.45", "++++++----", (8, 4), {"prune": {"layer": 2, "keep_ratio": 0.45}}),
    ("prunevid_official", "+++++++---", (8, 5), {"prune": {"layer": 3, "keep_ratio": 0.4}}),
    ("random path=/a/b", "+---------", (7, 7), {"merge": {"path": "/a/b", "exact": True}}),
)


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The latest one below the working folder."""
    monkeypatch.chdir(tmp_path)
    folder = Path("multirun/2030-01-31/12-00-00")
    for index, (name, answers, visual, parts) in enumerate(TRIALS):
        one = made(name, answers, visual=visual, **parts)
        write_trial(folder / str(index), one.info, one.records)
    link_latest(Path("multirun"), folder)
    return folder


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("3", "3"),
        ("#3", "3"),
        ("none", "0"),
        ("dense", "0"),
        ("best", "0"),
        ("knee", "2"),
        ("best@0.8x", "2"),
        ("best@0.7", "1"),
        ("prunevid keep_ratio=0.4", "2"),
        ("prunevid prune.keep_ratio=0.4", "2"),
        ("prunevid reducer.prune.keep_ratio=0.40", "2"),
        ("keep_ratio=0.45", "3"),
        ("keep_ratio=0.4 layer=3", "4"),
        ("prunevid_official", "4"),
        ("official", "4"),
        ("merge=null layer=3", "4"),
        ("random path=/a/b", "5"),
        ("exact=true", "5"),
        ("multirun/2030-01-31/12-00-00/2", "2"),
    ],
)
def test_a_trial_is_called_by_its_number_its_place_or_what_tells_it_apart(sweep: Path, typed: str, meant: str) -> None:
    assert trial_called(typed, sweep) == sweep / meant
    if "/" not in typed:
        assert trial_called(f"latest/{typed}") == trial_called(f"{sweep}/{typed}") == sweep / meant


def test_a_name_is_taken_as_views_print_it(sweep: Path) -> None:
    proposed = {"0.25539521976281765": "0.255", "0.25574": "0.256", "0.0001234567": "0.000123"}
    for index, value in enumerate(proposed, len(TRIALS)):
        one = made(f"prunevid keep_ratio={value}", "+" * 10, prune={"layer": 2, "keep_ratio": float(value)})
        write_trial(sweep / str(index), one.info, one.records)
    for index, (value, shown) in enumerate(proposed.items(), len(TRIALS)):
        assert numbered(str(index), f"prunevid keep_ratio={value}") == f"#{index} prunevid keep_ratio={shown}"
        for typed in (f"prunevid keep_ratio={value}", f"prunevid keep_ratio={shown}", f"#{index}"):
            assert trial_called(typed, sweep) == trial_called(f"latest/{typed}") == sweep / str(index)
    with pytest.raises(ValueError, match=r"or take a number|no trial"):
        trial_called("prunevid keep_ratio=0.25", sweep)
    with pytest.raises(ValueError, match=re.escape("it has 0 (none), ")):
        trial_called("765", sweep)


def test_the_cost_axis_is_the_sweeps(sweep: Path) -> None:
    assert trial_called("best@0.9x", sweep, cost="entrance_ratio") == sweep / "5"
    assert trial_called("best@0.9x", sweep, cost="entrance_tokens") == sweep / "5", "an absolute cost has a share of dense, too"
    assert trial_called("best@0.65x", sweep, cost="kv_bytes") == sweep / "2", "and so has one without a relative one"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("99", "no trial '99' in {sweep}; it has 0 (none), 1 (prunevid keep_ratio=0.2), 2 (prunevid keep_ratio=0.4), "),
        ("45", "no trial '45' in {sweep}; it has 0 (none), "),
        ("0.45", "no trial '0.45' in {sweep}; "),
        ("prunevid", "'prunevid' is any of 3 trials of {sweep}: 1 (prunevid keep_ratio=0.2), "),
        ("layer=2", "'layer=2' is any of 3 trials of {sweep}: 1 "),
        ("prunvid keep_ratio=0.2", "did you mean 1 (prunevid keep_ratio=0.2), "),
        ("nonne", "no trial 'nonne' in {sweep}; did you mean 0 (none)"),
        ("kneee", "no trial 'kneee' in {sweep}; did you mean knee?"),
        ("zzz", "or say dense, best, knee, best@SHARE"),
        ("keep_ratio=0.3", "no trial 'keep_ratio=0.3' in {sweep}; "),
        ("best@cheap", "such as best@0.25x, got 'best@cheap'"),
        ("best@-1x", "above 0"),
        (
            "best@0.01x",
            "the cheapest, #1 prunevid keep_ratio=0.2, costs 0.",
        ),
        ("", "no trial '' in {sweep}; "),
    ],
)
def test_what_is_no_trial_is_said_on_one_line_with_what_may_be_meant(sweep: Path, typed: str, said: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the text is asserted below
        trial_called(typed, sweep)
    assert said.format(sweep=sweep) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("7", "'7' is no folder; a trial is called by its sweep, too: latest/7"),
        ("latest", "is a sweep; name one of its trials, such as multirun/2030-01-31/12-00-00/0"),
        ("latest/7", "no trial '7' in multirun/2030-01-31/12-00-00; it has 0 (none)"),
        ("multirun/2030-01-13/12-00-00", "multirun/2030-01-13/12-00-00 does not exist; did you mean multirun/2030-01-31?"),
    ],
)
def test_a_path_says_which_sweep(sweep: Path, typed: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        trial_called(typed)


def test_a_value_is_never_taken_for_another_that_begins_alike(sweep: Path) -> None:
    for folder in ("2", "4"):
        (sweep / folder / "records.parquet").unlink()
    with pytest.raises(ValueError, match="no trial 'keep_ratio=0.4'"):
        trial_called("keep_ratio=0.4", sweep)


def test_a_trial_that_could_not_be_run_says_why(sweep: Path) -> None:
    write_infeasible(sweep / "6", Infeasible("fastv layer=9", "fastv", "tiny", "blocks", (), "the model has 8 layers"))
    for typed in ("latest/6", f"{sweep}/6"):
        with pytest.raises(ValueError, match="6 could not be run: fastv layer=9: the model has 8 layers"):
            trial_called(typed)
    with pytest.raises(ValueError, match="the model has 8 layers"):
        trial_called("6", sweep)


def test_places_among_trials_need_one_model_and_benchmark(sweep: Path) -> None:
    one = made("none", "++++++++++")
    write_trial(sweep / "7", one.info.__class__(**{**vars(one.info), "model": "other"}), one.records)
    with pytest.raises(ValueError, match="'best' is a different trial for each of tiny on blocks, other on blocks; name"):
        trial_called("best", sweep)
    assert trial_called("7", sweep) == sweep / "7"


def test_a_sweep_without_dense_trial_or_knee_says_so(sweep: Path) -> None:
    for folder in "02345":
        (sweep / folder / "records.parquet").unlink()
    with pytest.raises(ValueError, match="no trial without reduction; add reducer=none"):
        trial_called("dense", sweep)
    with pytest.raises(ValueError, match="fewer than three trials, and so no knee"):
        trial_called("knee", sweep)


def test_trials_of_a_store_are_called_by_name_or_the_first_digits_of_their_keys(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", [made(name, answers, visual=visual, **parts) for name, answers, visual, parts in TRIALS])
    folders = [folder for folder, _ in read_infos(store.folder)]
    assert len(folders) == len(TRIALS)
    for folder in folders:
        for typed in (number(folder), f"#{number(folder)}", folder.name[:12], folder.name):
            assert trial_called(typed, store.folder) == folder
    assert trial_called("none", store.folder) == trial_called("dense", store.folder)


# latest


def configuration(folder: str) -> object:
    return OmegaConf.create({"root": "results", "hydra": {"sweep": {"dir": folder}, "overrides": {"hydra": []}}})


@pytest.mark.parametrize("typed", ["latest/3", "latest/knee"])
def test_where_nothing_has_been_run_there_is_no_latest_trial(typed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="^there is no multirun/latest: nothing has been run from here"):
        trial_called(typed)


def test_the_latest_sweep_has_a_link_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    OmegaConf.register_new_resolver("now", lambda pattern: pattern.replace("%", ""), replace=True)
    for folder, link in (
        ("multirun/${now:%Y}/${now:%H}", "multirun/latest"),
        ("${root}/my_${now:%Y/%m}", "results/latest"),
        ("${now:%Y}", "latest"),
    ):
        config = configuration(folder)
        before = os.path.realpath(link)
        assert claim(config, "hydra.sweep.dir")
        assert os.path.realpath(link) == before, "not before it has begun"
        begun(Path(config.hydra.sweep.dir))
        assert sweep_called(link) == Path(config.hydra.sweep.dir)
    config = configuration("multirun/${now:%Y}/${now:%H}")
    assert claim(config, "hydra.sweep.dir"), "another one of the same second"
    begun(Path(config.hydra.sweep.dir))
    assert config.hydra.sweep.dir == "multirun/Y/H-2"
    assert Path("multirun/latest").readlink() == Path("Y/H-2")
    assert not list(tmp_path.rglob("*.partial"))


def test_a_run_and_a_sweep_are_the_latest_of_their_kind(run) -> None:
    assert run("reducer=none", "benchmark.limit=2")[0] == 0
    assert run("-m", "reducer=none,random", "benchmark.limit=2")[0] == 0
    assert sweep_called("latest") == sweep_called("multirun/latest") == only_folder("multirun/*/*").relative_to(Path.cwd())
    assert trial_called("outputs/latest") == only_folder("outputs/*/*").relative_to(Path.cwd())
    assert trial_called("latest/random") == sweep_called("latest") / "1"
    assert trial_folders(Path("outputs")) == []


@pytest.mark.parametrize(
    "refused", [("benchmark.limit=0",), ("reducer.merge.keep_ratio=3",), ("reducer.merge=null", "store.folder=/dev/null")]
)
def test_what_is_refused_is_not_the_latest(run, refused: str) -> None:
    for mode in ((), ("-m",)):
        assert run(*mode, "reducer=random", "benchmark.limit=2")[0] == 0
        where = "multirun" if mode else "outputs"
        before = os.path.realpath(f"{where}/latest")
        assert run(*mode, "reducer=random", refused)[0] != 0
        assert os.path.realpath(f"{where}/latest") == before
        assert trial_called(f"{where}/latest/0" if mode else f"{where}/latest")


def test_a_folder_that_was_named_by_hand_has_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not claim(configuration("multirun/mine"), "hydra.sweep.dir")
    with pytest.raises(ValueError, match="there is no multirun/latest: nothing has been run from here"):
        sweep_called("latest")


def test_no_run_fails_where_links_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()

    def refuses(*_: object, **__: object) -> None:
        raise OSError("no links here")

    with monkeypatch.context() as patch:
        patch.setattr(os, "symlink", refuses)
        link_latest(tmp_path, tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    (tmp_path / "latest").write_text("something of the user's own")
    link_latest(tmp_path, tmp_path / "run")
    assert (tmp_path / "latest").read_text() == "something of the user's own"


def test_a_link_to_what_is_gone_says_so(sweep: Path) -> None:
    sweep.rename("elsewhere")
    with pytest.raises(ValueError, match="multirun/2030-01-31/12-00-00 does not exist"):
        sweep_called("latest")


def test_the_link_is_no_trial_and_no_sweep_of_its_own(sweep: Path) -> None:
    link_latest(sweep, sweep / "2")
    write_infeasible(sweep / "6", Infeasible("a", "a", "tiny", "blocks", (), "why"))
    assert [folder.name for folder in trial_folders(sweep)] == ["0", "1", "2", "3", "4", "5"]
    link_latest(sweep, sweep / "6")
    assert len(all_infeasible(sweep)) == 1
