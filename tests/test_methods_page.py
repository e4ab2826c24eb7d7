"""docs/methods.md: its counts of reference cases are the tests', and its list of long files is that of the package."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from prunesweep import reducers
from support.places import DATA, ROOT

AIM = 150
"""Lines of a method."""
NO_RESULT = {"scissor_sampled"}
"""Whose release draws what it starts from; others say `official_error`."""
CALLED = {
    "visionzip": "visionzip_clip",
    "visionzip_video": "visionzip",
    "holitom_inner": "holitom",
    "flashvid_inner": "flashvid",
    "dycoke_decode": "dycoke",
}
ELSEWHERE = {"mmtok", "dytok_budget"}
"""Among the cases of methods inside the LLM: one acts before it, the other does not fit, as the page says."""


def section(title: str) -> Iterator[list[str]]:
    """Cells of the rows of all tables below a title."""
    page = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    _, found, rest = page.partition(f"\n## {title}\n")
    assert found, title
    for line in rest.partition("\n## ")[0].splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def told(title: str) -> dict[str, int]:
    """N of the `M of N` cases of each method of a section; those that have one."""
    rows = ((re.findall(r"`(\w+)`", row[0]), re.findall(r"\d+ of (\d+)", row[-1])) for row in section(title))
    return {names[0]: int(numbers[0]) for names, numbers in rows if numbers}


def counted(path: Path) -> Counter[str]:
    read = json.loads(path.read_text(encoding="utf-8"))
    cases = [one for one in (read["cases"] if isinstance(read, dict) else read) if "official_error" not in one]
    return Counter(CALLED.get(one["method"], one["method"]) for one in cases if one["case"] not in NO_RESULT)


def test_the_page_of_methods_counts_the_reference_cases_before_the_llm() -> None:
    page, tested = told("Methods that act before the LLM"), counted(DATA / "methods" / "cases.json")
    two_more = counted(DATA / "methods" / "cases_of_two_more.json")
    assert page == {**tested, **two_more}


def test_the_page_of_methods_counts_the_reference_cases_inside_the_llm() -> None:
    tested = counted(DATA / "methods" / "inside_llm" / "cases.json")
    assert told("Methods that act inside the LLM") == {name: number for name, number in tested.items() if name not in ELSEWHERE}


def test_the_page_of_methods_counts_the_first_reference_cases() -> None:
    page, folder = told("Methods that were here first"), DATA / "released"
    own = {
        name: len(json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))) for name in ("fastv", "prumerge", "lookm")
    }
    assert page == {**own, "prunevid": len(json.loads((DATA / "prunevid_cases.json").read_text(encoding="utf-8")))}


def test_the_page_of_methods_names_every_long_file_and_no_other() -> None:
    named = {name for row in section("How long a method is") for name in re.findall(r"(\w+)\.py", row[0])}
    files = [p for p in Path(reducers.__file__).parent.glob("*.py") if p.stem != "__init__"]
    assert named == {p.stem for p in files if len(p.read_text(encoding="utf-8").splitlines()) > AIM}
