"""The report in a real browser: it opens without a network, answers mouse and keyboard, and shows no string as markup."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from prunesweep.analysis.outcomes import read_outcomes
from prunesweep.cli import app
from prunesweep.dev.bench_analysis import write_drawn_sweep
from prunesweep.dev.browser import Browser, browser, chromium
from prunesweep.report.given import KEY
from prunesweep.report.html import page_data, render, report_data, write_report
from prunesweep.report.redact import public, public_override
from prunesweep.report.terms import TERMS
from prunesweep.report.verdict import verdict
from prunesweep.results.records import Trial, TrialInfo, write_trial
from support.records import drawn, grid_trials, made

HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
NARROW, MIDDLE, WIDE = 390, 900, 1440


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    if chromium() is None:
        pytest.skip("needs Chromium (apt install chromium)")
    with browser() as own:
        yield own


def store(sweep: Path, trials: list[Trial]) -> Path:
    for index, one in enumerate(trials):
        write_trial(sweep / str(index), one.info, one.records)
    return sweep


@pytest.fixture
def open_report(chrome: Browser, tmp_path: Path):
    """Writes and opens the report of trials; at the end nothing was complained about and nothing was fetched."""

    def call(trials: list[Trial], width: int = WIDE, **screen) -> Browser:
        store(tmp_path, trials)
        write_report(read_outcomes(tmp_path), tmp_path, tmp_path / "report.html")
        chrome.screen(width, 900, **screen)
        chrome.open((tmp_path / "report.html").as_uri())
        return chrome

    chrome.complaints.clear()
    chrome.asked.clear()
    yield call
    assert chrome.complaints == []
    assert [url for url in chrome.asked if url.startswith(("http", "ws"))] == []


def curved() -> list[Trial]:
    """A front that turns at its second trial."""
    right = ((1, 20), (2, 36), (4, 38))
    few = [made(f"prunevid layer={n}", "+" * r + "-" * (40 - r), visual=(n, n), prune={"layer": n}) for n, r in right]
    return [made("none", "+" * 40), *few]


def texts(page: Browser, selector: str) -> list[str]:
    return page.js(f"[...document.querySelectorAll({json.dumps(selector)})].map(e => e.innerText ?? e.textContent)")


def text(page: Browser, selector: str) -> str:
    return texts(page, selector)[0]


def labels(page: Browser, selector: str = ".point") -> list[str]:
    return page.js(f"[...document.querySelectorAll({json.dumps(selector)})].map(e => e.getAttribute('aria-label'))")


def choose(page: Browser, selector: str, value: str) -> None:
    code = f"e.value = {json.dumps(value)}; e.dispatchEvent(new Event('change'))"
    page.js(f"(() => {{ const e = document.querySelector({json.dumps(selector)}); {code} }})()")


def test_the_first_screen_answers_with_the_picture_left_and_the_answers_right(open_report) -> None:
    page = open_report(curved())
    chart, answers = page.js("['#chart', '.answers'].map(s => document.querySelector(s).getBoundingClientRect().toJSON())")
    assert chart["right"] <= answers["left"]
    assert chart["bottom"] < 900
    assert [title.split(" ")[0] for title in texts(page, ".answer h3")] == ["Best", "Knee", "Dense"]
    assert page.js("document.querySelector('.words').getBoundingClientRect().top") > chart["bottom"], "pictures before words"
    assert {"dense", "knee"} <= {name.split(" #")[0] for name in texts(page, "svg .name")}


def test_the_knee_is_chosen_at_first(open_report) -> None:
    page = open_report(curved())
    (knee,) = page.js("[...document.querySelectorAll('.answer.chosen')].map(e => e.dataset.trial)")
    assert page.js("document.querySelector('.point[aria-pressed=true]').dataset.trial") == knee
    assert knee == "2"
    assert text(page, ".answer.chosen h3") == "Knee"
    assert text(page, "#details h3").startswith(f"#{knee} ")


def test_hovering_shows_a_trial_and_clicking_its_details(open_report) -> None:
    page = open_report(drawn())
    assert len(labels(page)) == 6
    page.hover(".point[aria-label^='#0 none']")
    assert text(page, "#tip").splitlines()[0] == "#0 none"
    assert "on the front in" in text(page, "#tip")
    page.click(".point[data-trial='2']")
    details = text(page, "#details")
    assert details.splitlines()[0].startswith("#2 prunevid layer=2")
    assert all(part in details for part in ("Against the dense model", "Flipped answers", "gained / lost answers"))
    assert texts(page, "table.trials tr.chosen td")[0] == "2"
    assert texts(page, "table.trials tr.chosen td")[1].startswith("prunevid layer=2")
    assert texts(page, "table.trials th")[:2] == texts(page, "table.ledger th")[:2] == ["#", "trial"]


def test_the_keyboard_reaches_every_point(open_report) -> None:
    page = open_report(drawn())
    stops = ".point[tabindex='0']"
    assert len(labels(page, stops)) == 1, "one stop for the Tab key"
    page.js(f'document.querySelector("{stops}").focus()')
    page.press("Home")
    seen = []
    for _ in range(6):
        seen.append(page.js("document.activeElement.dataset.trial"))
        page.press("ArrowRight")
    assert sorted(seen) == list("012345")
    assert page.js("document.getElementById('tip').hidden") is False
    name = page.js("document.activeElement.getAttribute('aria-label')").split(",")[0]
    page.press("Enter")
    assert text(page, "#details h3").startswith(name)
    assert len(labels(page, ".point[aria-pressed=true]")) == 1


def test_another_cost_moves_the_points(open_report) -> None:
    page = open_report(drawn())
    places = "[...document.querySelectorAll('.point')].map(p => p.dataset.trial + p.getAttribute('transform')).sort()"
    before = page.js(places)
    choose(page, "#axis", "kv_bytes")
    after = page.js(places)
    assert len(after) == len(before)
    assert after != before
    assert "bytes of KV caches" in " ".join(texts(page, "table.trials th"))


def test_the_table_is_sorted_and_filtered(open_report) -> None:
    page = open_report([*curved(), made("random keep=0.5", "+-" * 20)])
    rows, heading = "table.trials tbody tr", "table.trials th:nth-child(3)"
    assert len(texts(page, rows)) == 5

    def accuracies() -> list[float]:
        return [float(one.split(" ")[0]) for one in texts(page, f"{rows} td:nth-child(3)")]

    page.click(f"{heading} button")
    assert page.js(f"document.querySelector('{heading}').getAttribute('aria-sort')") == "ascending"
    ascending = accuracies()
    assert ascending == sorted(ascending)
    page.click(f"{heading} button")
    assert accuracies() == ascending[::-1]
    choose(page, "#method", "prunevid")
    assert len(texts(page, rows)) == 3
    page.click("input[type=search]")
    page.type("layer=4")
    assert texts(page, f"{rows} td:first-child") == ["3"]
    assert text(page, ".count") == "1 of 5 trials"


def test_terms_explain_themselves_on_hover_and_by_keyboard(open_report) -> None:
    page = open_report(drawn())
    page.hover(".words .term")
    assert text(page, "#tip") == TERMS[text(page, ".words .term")]
    page.js("document.querySelector('.note .term').focus()")
    assert text(page, "#tip") == TERMS[text(page, ".note .term")]


def test_tasks_are_differences_to_dense_which_stands_on_top(open_report) -> None:
    tasks = "ab" * 20
    page = open_report([made("none", "+" * 40, tasks=tasks), made("random 1", "+-" * 20, visual=(4, 4), tasks=tasks)])
    assert text(page, "table.tasks tbody tr").startswith("0")
    whole, other = (texts(page, f"table.tasks tbody tr:nth-child({row}) td") for row in (1, 2))
    assert [one.splitlines()[0] for one in whole[2:]] == ["1.00", "1.00"]
    assert [one.splitlines()[0] for one in other[2:]] == ["+0.00", "−1.00"]
    assert all("n=20" in one for one in (*whole[2:], *other[2:]))
    assert all(" to " in one for one in other[2:]), "no difference without its interval"


def test_what_is_not_significant_is_folded(open_report) -> None:
    strong = grid_trials({"layer": [1, 2, 3], "noise": [0, 1]}, lambda layer, _: 0.2 + 0.25 * layer)
    page = open_report([made("none", "+" * 200), *strong])
    here = "#which-settings-matter"
    assert [one.split(":")[0] for one in labels(page, f"{here} > svg.effects")] == ["layer"]
    assert [one.split(":")[0] for one in labels(page, f"{here} details > svg.effects")] == ["noise"]
    assert text(page, f"{here} .folded summary") == "1 setting without a significant effect: noise"


@pytest.mark.parametrize(("layers", "lines"), [([1, 2, 3], 0), ([1, 2, 3, 4], 16)])
def test_lines_through_settings_of_many_values_lead_to_their_trials(open_report, layers: list[int], lines: int) -> None:
    levels = {"layer": layers, "keep": [0.1, 0.2, 0.4, 0.8]}
    page = open_report([made("none", "+" * 200), *grid_trials(levels, lambda layer, keep: 0.1 * layer + keep / 2)])
    assert len(texts(page, ".line")) == lines
    if lines:
        page.js("document.querySelector('.line').dispatchEvent(new PointerEvent('pointerenter', {clientX: 300, clientY: 300}))")
        name = text(page, "#tip").splitlines()[0]
        page.js("document.querySelector('.line').dispatchEvent(new MouseEvent('click'))")
        assert text(page, "#details h3").startswith(name)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [NARROW, MIDDLE, WIDE])
def test_every_width_shows_all_of_it_in_light_and_dark(open_report, width: int, dark: bool) -> None:
    page = open_report(drawn(), width, dark=dark, phone=width == NARROW)
    assert page.js("document.documentElement.scrollWidth") <= width
    chart = page.js("(e => [e.getBoundingClientRect().width, e.viewBox.baseVal.width])(document.querySelector('#chart svg'))")
    size = float(page.js("getComputedStyle(document.querySelector('#chart svg text')).fontSize").removesuffix("px"))
    assert size * chart[0] / chart[1] >= 9, "text of the chart can be read"
    page.click(".point[data-trial='1']")
    assert text(page, "#details h3").startswith("#1 ")
    ink, ground = (page.js(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor"))
    assert contrast(ink, ground) > 7
    assert (luminance(ground) < 0.1) == dark
    soft = page.js("getComputedStyle(document.querySelector('.note')).color")
    assert contrast(soft, page.js("getComputedStyle(document.querySelector('section')).backgroundColor")) > 4.5


def luminance(colour: str) -> float:
    """As WCAG 2 defines it, of `rgb(1, 2, 3)`."""
    parts = [int(part) / 255 for part in colour[4:-1].split(",")]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_numbers_stay_in_sight_when_a_phone_scrolls_the_table(open_report) -> None:
    page = open_report(drawn(), NARROW, phone=True)
    where = "document.querySelector('table.trials tbody td').getBoundingClientRect().left"
    before = page.js(where)
    page.js("document.querySelector('table.trials').parentElement.scrollLeft = 200")
    assert page.js("document.querySelector('table.trials').parentElement.scrollLeft") > 100
    assert page.js(where) == pytest.approx(before, abs=1)


def test_no_colour_stands_for_two_methods(open_report) -> None:
    trials = [made("none", "+" * 40), *(made(f"method{i} a", "+-+-" * 10, visual=(1 + i % 7, 1)) for i in range(12))]
    page = open_report(trials)
    colours = page.js("[...document.querySelector('.legend').querySelectorAll('.mark')].map(e => e.getAttribute('fill'))")
    assert len(colours) == len(set(colours)) == 9, "seven methods, the dense model, and all others in grey"
    assert "5 other methods" in text(page, ".legend")


def a_thousand(sweep: Path) -> dict:
    """The data of a page of 1000 trials of 20 tasks, made of 20 drawn ones that cost a little more each time."""
    write_drawn_sweep(sweep, 20, 60)
    data = page_data([verdict(one, with_importance=False) for one in read_outcomes(sweep)], sweep)
    (group,) = data["groups"]
    few, times = group["trials"], range(50)
    group["trials"] = [
        {**one, "index": one["index"] + len(few) * again, "number": str(one["index"] + len(few) * again),
         "costs": {name: value and value * (1 + again / 100) for name, value in one["costs"].items()}}
        for again in times for one in few
    ]  # fmt: skip
    for axis in group["axes"].values():
        axis |= {name: axis[name] * len(times) for name in ("on", "probability")}
    return data


def test_a_thousand_trials_open_in_three_seconds(chrome: Browser, tmp_path: Path) -> None:
    page = render(a_thousand(tmp_path / "sweep"), "many")
    (tmp_path / "report.html").write_text(page)
    chrome.screen(WIDE, 900)
    chrome.open((tmp_path / "report.html").as_uri())
    assert len(labels(chrome)) == 1000
    assert len(texts(chrome, "table.trials tbody tr")) == 50, "a page of them"
    assert chrome.worked() < 3, "alone on a processor; a busy machine takes longer"
    assert 1_000_000 < len(page) < 6_000_000


def test_a_preset_says_in_the_report_what_it_was_chosen_for(open_report, tmp_path: Path) -> None:
    (tmp_path / "presets").mkdir()
    overrides = ("reducer=prunevid", "reducer.prune.layer=1")
    own = {KEY: 1, "model": "tiny", "overrides": list(overrides), "statement": f"Loses little. {HOSTILE}"}
    (tmp_path / "presets" / "mine.yaml").write_text(json.dumps(own))
    trials = drawn()
    page = open_report([trials[0], trials[1]._replace(info=replace(trials[1].info, overrides=overrides)), *trials[2:]])
    page.click(".point[data-trial='1']")
    assert text(page, ".preset") == f"Preset. Loses little. {public(HOSTILE)}"
    page.click(".point[data-trial='2']")
    assert texts(page, ".preset") == []


def test_strings_from_data_and_models_stay_text(open_report, tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "tokens").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "tokens" / "<img src=x onerror='window.hacked = 3'>.png")
    trials = []
    for one in drawn(2):
        info = TrialInfo(**{**vars(one.info), "name": f"{one.info.name} {HOSTILE}", "model": HOSTILE, "benchmark": "<b>bold</b>"})
        columns = {name: pl.format("{} " + HOSTILE, pl.col(name)) for name in ("sample_id", "task", "prediction", "target")}
        trials.append(Trial(info, one.records.with_columns(**columns, error=pl.lit(None, dtype=pl.String)), None))
    page = open_report(trials)
    page.click(".point[data-trial='1']")
    assert page.js("window.hacked === undefined")
    assert len(texts(page, "script")) == 2
    assert not any("bold" in one for one in texts(page, "b"))
    (picture,) = page.js("[...document.querySelectorAll('main img')].map(e => [e.src, e.alt])")
    assert picture[0].startswith("data:image/png;base64,")
    assert text(page, "figcaption") == picture[1]
    assert "onerror" in picture[1]
    assert HOSTILE in text(page, "h1")
    assert HOSTILE in text(page, "#details")


@pytest.mark.parametrize("answers", [["????"], ["+-+-"], ["++++", "????"], ["++++", "++++"]])
def test_odd_sweeps_open_without_complaint(open_report, answers: list[str]) -> None:
    page = open_report([made("none" if i == 0 else f"random {i}", a) for i, a in enumerate(answers)])
    assert text(page, "h1") == "PruneSweep: tiny on blocks"
    answered = sum("?" not in a for a in answers)
    assert len(texts(page, ".point")) == answered
    if not answered:
        assert "No trial has an answer" in text(page, "#main")
        assert "gone" in text(page, "#main")


def test_the_data_holds_numbers_of_the_records_and_no_folder_of_this_machine(tmp_path: Path) -> None:
    trials = [
        one._replace(info=TrialInfo(**{**vars(one.info), "overrides": ("model.checkpoint=/home/me/secret/7b",)}))
        for one in drawn()
    ]
    (found,) = read_outcomes(store(tmp_path, trials))
    data = report_data([found], tmp_path)
    (group,) = data["groups"]
    assert [t["accuracy"] for t in group["trials"]] == pytest.approx([row.accuracy for row in found.table], rel=1e-6)
    assert [t["number"] for t in group["trials"]] == [row.number for row in found.table]
    assert {t["number"] for t in group["trials"]} == {str(i) for i in range(len(trials))}
    assert group["trials"][1]["overrides"] == ["model.checkpoint=7b"]
    assert "/home" not in render(data, "title")
    assert str(tmp_path) not in render(data, "title")


def test_folders_and_secrets_are_left_out() -> None:
    shown = {"/home/me/a.mp4": "a.mp4", "~/x/y": "y", "C:\\u\\f.mp4": "f.mp4", "[/a/b,/c]": "[b,c]", "/root": "root"}
    shown |= {name: name for name in ("org/model", "1/2 of it", "s3://bucket/key", "https://host/page", "a</b>", "</x")}
    shown |= {"</home/me/x>": "<x>", "<b>/a/b": "<b>b"}
    assert {text: public(text) for text in shown} == shown
    assert public({"api_key": "abc", "most_tokens": 16, "in": {"path": "/x/y"}}) == {
        "api_key": "(hidden)", "most_tokens": 16, "in": {"path": "y"},
    }  # fmt: skip
    assert public_override("judge.key=abc") == "judge.key=(hidden)"
    assert public_override("benchmark.path=/a/b") == "benchmark.path=b"


def test_the_command_writes_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    store(tmp_path, drawn())
    monkeypatch.setattr("sys.argv", ["prunesweep", "report", str(tmp_path)])
    app.main()
    assert "opens without a network" in capsys.readouterr().out
    assert (tmp_path / "report.html").stat().st_size < 300_000
    monkeypatch.setattr("sys.argv", ["prunesweep", "report", str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit, match="does not exist; name the folder of a sweep"):
        app.main()
