"""The report in a real browser: it opens without a network, answers mouse and keyboard, and shows no string as markup."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from prunesweep.analysis.outcomes import read_outcomes
from prunesweep.cli import app
from prunesweep.report.html import render, report_data, write_report
from prunesweep.report.redact import public, public_override
from prunesweep.results.records import Trial, TrialInfo, write_trial
from support.records import drawn, made

CHROMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-quic --no-first-run"
HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"


def chromium() -> tuple[str, str]:
    """Browser and driver; Debian's are installed if that is possible, or the test is skipped with the reason."""
    found = next(filter(None, map(shutil.which, CHROMES)), None), shutil.which("chromedriver")
    if all(found):
        return found
    if not shutil.which("apt-get") or os.geteuid():
        pytest.skip(f"needs Chromium and chromedriver (apt install chromium chromium-driver); found {found}")
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium", "chromium-driver"]
    done = subprocess.run(install, capture_output=True, timeout=300, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    if done.returncode:
        pytest.skip("needs Chromium and chromedriver, and apt could not install them")
    return shutil.which("chromium"), shutil.which("chromedriver")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    binary, driver = chromium()
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}", "--window-size=1200,1000"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    session = webdriver.Chrome(options=options, service=Service(driver))
    yield session
    session.quit()


def store(sweep: Path, trials: list[Trial]) -> Path:
    for index, one in enumerate(trials):
        write_trial(sweep / str(index), one.info, one.records)
    return sweep


@pytest.fixture
def open_report(browser, tmp_path: Path):
    """Writes and opens the report of trials; at the end nothing was complained about and nothing was fetched."""

    def call(trials: list[Trial]):
        store(tmp_path, trials)
        write_report(read_outcomes(tmp_path), tmp_path, tmp_path / "report.html")
        browser.get((tmp_path / "report.html").as_uri())
        return browser

    browser.get_log("browser"), browser.get_log("performance")
    yield call
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if url.startswith(("http", "ws"))] == []


def texts(browser, selector: str) -> list[str]:
    return [element.text for element in browser.find_elements("css selector", selector)]


def test_hovering_shows_a_trial_and_clicking_its_details(open_report) -> None:
    from selenium.webdriver import ActionChains

    page = open_report(drawn())
    points = page.find_elements("css selector", ".point")
    assert len(points) == 6
    dense = next(p for p in points if p.get_attribute("aria-label").startswith("none"))
    ActionChains(page).move_to_element(dense).perform()
    tip = page.find_element("id", "tip")
    assert tip.is_displayed()
    assert tip.text.splitlines()[0] == "none"
    assert "on the front in" in tip.text
    pruned = next(p for p in points if p.get_attribute("aria-label").startswith("prunevid layer=2"))
    ActionChains(page).move_to_element(pruned).click().perform()
    details = page.find_element("id", "details").text
    assert details.splitlines()[0] == "prunevid layer=2"
    assert "Against the dense model" in details
    assert "Flipped answers" in details
    assert "gained / lost answers" in details
    assert texts(page, "tr.chosen td")[:2] == ["2", "prunevid layer=2"]
    assert texts(page, "table.trials th")[:2] == texts(page, "table.ledger th")[:2] == ["#", "trial"]


def test_the_keyboard_reaches_every_point(open_report) -> None:
    from selenium.webdriver.common.keys import Keys

    page = open_report(drawn())
    point = page.find_elements("css selector", ".point")[1]
    page.execute_script("arguments[0].focus()", point)
    assert page.find_element("id", "tip").is_displayed()
    name = point.get_attribute("aria-label").split(",")[0]
    page.switch_to.active_element.send_keys(Keys.ENTER)
    assert page.find_element("css selector", "#details h3").text == name
    assert len(page.find_elements("css selector", ".point[aria-pressed=true]")) == 1


def test_another_cost_moves_the_points_and_a_search_narrows_the_table(open_report) -> None:
    from selenium.webdriver.support.ui import Select

    page = open_report(drawn())
    before = [p.get_attribute("transform") for p in page.find_elements("css selector", ".point")]
    Select(page.find_element("id", "axis")).select_by_value("kv_bytes")
    after = [p.get_attribute("transform") for p in page.find_elements("css selector", ".point")]
    assert len(after) == len(before)
    assert after != before
    page.find_element("css selector", "input[type=search]").send_keys("layer=3")
    assert len(page.find_elements("css selector", "tbody tr[data-trial]")) == 1
    page.find_elements("css selector", "th button")[3].click()
    assert page.find_elements("css selector", "th")[3].get_attribute("aria-sort") == "ascending"


def test_lines_through_the_settings_lead_to_their_trials(open_report) -> None:
    page = open_report(drawn())
    lines = page.find_elements("css selector", ".line")
    assert len(lines) == 5  # the dense model has no setting that varies
    ticks = texts(page, "[aria-label^='prunevid: 5 trials'] .halo")
    assert ticks[0] == "1"
    assert len(ticks) >= 6
    hover = "arguments[0].dispatchEvent(new PointerEvent('pointerenter', {clientX: 300, clientY: 300}))"
    page.execute_script(hover, lines[0])
    name = page.find_element("id", "tip").text.splitlines()[0]
    page.execute_script("arguments[0].dispatchEvent(new MouseEvent('click'))", lines[0])
    assert page.find_element("css selector", "#details h3").text == name
    assert name.startswith("prunevid layer=")


def test_a_telephone_shows_all_of_it(open_report, browser) -> None:
    from selenium.webdriver import ActionChains

    screen = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        page = open_report(drawn())
        assert page.execute_script("return document.documentElement.scrollWidth") <= 390
        size = page.find_element("css selector", "svg text").value_of_css_property("font-size")
        chart = page.find_element("css selector", "svg[aria-label^='Accuracy against']")
        shown = float(size.removesuffix("px")) * chart.size["width"] / float(chart.get_dom_attribute("viewBox").split()[2])
        assert shown >= 9, "text of the chart can be read"
        point = page.find_elements("css selector", ".point")[0]
        label = point.get_attribute("aria-label")
        ActionChains(page).move_to_element(point).click().perform()
        assert label.startswith(page.find_element("css selector", "#details h3").text)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_strings_from_data_and_models_stay_text(open_report, tmp_path: Path) -> None:
    from PIL import Image
    from selenium.webdriver.common.keys import Keys

    (tmp_path / "tokens").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "tokens" / "<img src=x onerror='window.hacked = 3'>.png")
    trials = []
    for one in drawn(2):
        info = TrialInfo(**{**vars(one.info), "name": f"{one.info.name} {HOSTILE}", "model": HOSTILE, "benchmark": "<b>bold</b>"})
        columns = {name: pl.format("{} " + HOSTILE, pl.col(name)) for name in ("sample_id", "task", "prediction", "target")}
        trials.append(Trial(info, one.records.with_columns(**columns, error=pl.lit(None, dtype=pl.String)), None))
    page = open_report(trials)
    page.execute_script("arguments[0].focus()", page.find_elements("css selector", ".point")[1])
    page.switch_to.active_element.send_keys(Keys.ENTER)
    assert page.execute_script("return window.hacked") is None
    assert len(page.find_elements("tag name", "script")) == 2
    assert page.find_elements("css selector", "main b") == []
    (picture,) = page.find_elements("css selector", "main img")
    assert picture.get_attribute("src").startswith("data:image/png;base64,")
    assert page.find_element("css selector", "figcaption").text == picture.get_attribute("alt")
    assert "onerror" in picture.get_attribute("alt")
    assert HOSTILE in page.find_element("tag name", "h1").text
    assert HOSTILE in page.find_element("id", "details").text


@pytest.mark.parametrize("answers", [["????"], ["+-+-"], ["++++", "????"], ["++++", "++++"]])
def test_odd_sweeps_open_without_complaint(open_report, answers: list[str]) -> None:
    page = open_report([made("none" if i == 0 else f"random {i}", a) for i, a in enumerate(answers)])
    assert page.find_element("tag name", "h1").text == "PruneSweep: tiny on blocks"
    answered = sum("?" not in a for a in answers)
    assert len(page.find_elements("css selector", ".point")) == answered
    if not answered:
        assert "No trial has an answer" in page.find_element("id", "main").text
        assert "gone" in page.find_element("id", "main").text


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
    shown |= {name: name for name in ("org/model", "1/2 of it", "s3://bucket/key", "https://host/page")}
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
