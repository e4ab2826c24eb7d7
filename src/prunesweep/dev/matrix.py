"""The table of stock families in docs/networks.md, written from what the tests say: `python -m prunesweep.dev.matrix`.

Runs `tests/models/test_adapter.py` in a checkout and marks, for every family, which of its claims hold.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path

from prunesweep.dev import parser_of
from prunesweep.disk.files import replace_file
from prunesweep.errors import write_anywhere
from prunesweep.paths import user_path

TESTS = "tests/models/test_adapter.py"
BEGIN, END = "<!-- written by python -m prunesweep.dev.matrix -->", "<!-- end -->"
COLUMNS = {
    "test_logits_are_the_stock_model_s_bit_for_bit": "dense logits, bits",
    "test_greedy_tokens_are_those_of_stock_generate": "greedy",
    "test_a_pruned_network_decodes_as_hooks_in_stock_generate_do": "pruned decoding",
    "test_tokens_dropped_at_the_entrance_are_to_the_others_as_if_never_there": "entrance",
    "test_a_clip_becomes_the_tokens_of_the_stock_chat_template_and_processor": "video in",
    "test_shared_equals_separate": "shared",
    "test_answers_written_together_are_those_of_one_at_a_time": "together",
    "test_layer_ranges_compose_halves_are_whole_and_keeping_all_is_the_identity": "ranges, halves, keep all",
    "test_text_stays_where_it_is_among_the_tokens_that_are_left": "slots",
    "test_the_ledger_is_the_operator_counter": "ledger, 1 %",
}
"""What a test's column is called."""
Results = Mapping[tuple[str, str], bool]
"""By test and family."""


def main() -> None:
    write_anywhere()
    parser = parser_of(__file__, __doc__)
    parser.add_argument("checkout", nargs="?", type=user_path, default=Path.cwd(), help="of the repository; default: here")
    checkout = parser.parse_args().checkout
    page = checkout / "docs" / "networks.md"
    text = page.read_text(encoding="utf-8")
    replace_file(page, with_table(text, table(tested(checkout))).encode())
    print(f"{page} has the table")


def tested(checkout: Path) -> Results:
    """Raises ValueError where the tests cannot be run."""
    return read_report(report_of(checkout, TESTS))


def report_of(checkout: Path, tests: str, **environment: str) -> str:
    """What pytest writes of a file of tests, as XML.  Raises ValueError where it cannot be run."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", tests, f"--junitxml={report}", "-o", "junit_family=xunit1"]
        subprocess.run(command, cwd=checkout, check=False, env={**os.environ, **environment})
        if not report.exists():
            raise ValueError(f"{checkout / tests} could not be run; install the package with its extra dev")
        return report.read_text(encoding="utf-8")


def read_report(text: str) -> dict[tuple[str, str], bool]:
    found = {}
    for case in ElementTree.fromstring(text).iter("testcase"):
        if match := re.fullmatch(r"(\w+)\[(\w+)\]", case.attrib["name"]):
            found[match[1], match[2]] = not any(child.tag in ("failure", "error", "skipped") for child in case)
    return found


def table(results: Results) -> str:
    families = list(dict.fromkeys(family for _, family in results))
    head = ["family", *COLUMNS.values()]
    rows = [[f"`{family}`", *("yes" if results.get((test, family)) else "**no**" for test in COLUMNS)] for family in families]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def with_table(page: str, new: str) -> str:
    """Raises ValueError for a page without its place."""
    if BEGIN not in page or END not in page:
        raise ValueError(f"docs/networks.md has no place for the table: {BEGIN} and {END}")
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{new}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    main()
