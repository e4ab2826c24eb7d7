"""The page of law 12 is what its tests say."""

from __future__ import annotations

from prunesweep.dev import use_matrix
from support.places import REDUCERS, ROOT
from support.zoo import ZOO

FAMILY, METHOD = use_matrix.EVERY_FAMILY, use_matrix.EVERY_METHOD
REFUSED = '<properties><property name="refused" value="one reads what the model does not have"/></properties>'
REPORT = f"""<testsuites><testsuite>
<testcase name="{FAMILY}[one-fastv-greedy]"/><testcase name="{FAMILY}[one-fastv-sampled]"/>
<testcase name="{FAMILY}[two-fastv-greedy]"/><testcase name="{FAMILY}[two-fastv-sampled]"><failure/></testcase>
<testcase name="{FAMILY}[two-vtw-greedy]">{REFUSED}</testcase><testcase name="{FAMILY}[two-vtw-sampled]">{REFUSED}</testcase>
<testcase name="{FAMILY}[one-vtw-greedy]"/>
<testcase name="{METHOD}[fastv-greedy]"/><testcase name="{METHOD}[fastv-sampled]"/>
<testcase name="{METHOD}[vtw-greedy]"/><testcase name="{METHOD}[vtw-sampled]">{REFUSED}</testcase>
<testcase name="test_of_something_else"/></testsuite></testsuites>"""


def test_a_report_becomes_a_page_and_one_way_alone_is_no_yes() -> None:
    results = use_matrix.read_report(REPORT)
    head, _, fastv, vtw = use_matrix.table(results)
    assert head == "| method | one | two | a real video |"
    assert fastv == "| `fastv` | yes | **no** | yes |"
    assert vtw == "| `vtw` | ? | – | **no** |"
    assert (
        "2 pairs are equal token for token, both ways; 1 are refused by both in the same words, 0 by `ps.prune` alone; 2 differ"
        in use_matrix.told(results)
    )
    alone = use_matrix.read_report(REPORT.replace('"refused"', '"refused_alone"'))
    assert "0 are refused by both in the same words, 1 by `ps.prune` alone" in use_matrix.told(alone)
    assert use_matrix.reasons(results) == ["- `vtw`, two: one reads what the model does not have."]


def test_the_page_has_every_method_and_family_and_no_difference() -> None:
    """Whoever adds one runs `python -m prunesweep.dev.use_matrix`."""
    page = (ROOT / use_matrix.PAGE).read_text()
    for method in REDUCERS:
        assert f"| `{method}` |" in page
    for family in ZOO:
        assert f" {family.replace('_', ' ')} |" in page
    lines = [line for line in page.splitlines() if line.startswith("| `")]
    assert not any(use_matrix.DIFFERENT in line or f" {use_matrix.NOT_RUN} " in line for line in lines)
    assert f"{len(REDUCERS)} methods and {len(ZOO) + 1} columns" in page
