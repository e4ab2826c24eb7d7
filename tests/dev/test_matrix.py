"""The table of families is what the tests say."""

from __future__ import annotations

import pytest

from prunesweep.dev import matrix
from prunesweep.models.families import FAMILIES
from support.places import CONF
from support.zoo import ZOO

PAGE = CONF.parent / "docs" / "networks.md"
REPORT = """<testsuites><testsuite>
<testcase name="test_shared_equals_separate[one]"/>
<testcase name="test_shared_equals_separate[two]"><failure/></testcase>
<testcase name="test_of_no_family"/></testsuite></testsuites>"""


def test_a_report_becomes_a_table() -> None:
    results = matrix.read_report(REPORT)
    assert results == {("test_shared_equals_separate", "one"): True, ("test_shared_equals_separate", "two"): False}
    head, _, one, two = matrix.table(results).splitlines()
    column = head.split(" | ").index("shared")
    assert [line.split(" | ")[column] for line in (one, two)] == ["yes", "**no**"]
    page = f"a\n{matrix.BEGIN}\nold\n{matrix.END}\nb\n"
    assert matrix.with_table(page, "new") == f"a\n{matrix.BEGIN}\nnew\n{matrix.END}\nb\n"
    with pytest.raises(ValueError, match="has no place for the table"):
        matrix.with_table("a page", "new")


def test_the_page_names_every_family_and_every_claim() -> None:
    """Of all that the adapter knows, each on a tiny checkpoint; whoever adds one runs `python -m prunesweep.dev.matrix`."""
    assert set(ZOO) == set(FAMILIES)
    written = PAGE.read_text().partition(matrix.BEGIN)[2].partition(matrix.END)[0].strip()
    assert written == matrix.table({(test, family): True for family in ZOO for test in matrix.COLUMNS})
