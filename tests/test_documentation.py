"""The documentation: its pages are complete, short of breath, and built without a network."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from prunesweep.dev import prose, reference, settings, site
from prunesweep.models import families
from support.places import CONF, ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
EXTERNAL = re.compile(
    r"<(?:script|img|iframe|source)[^>]+src=[\"']?(?:https?:)?//|<link[^>]+href=[\"']?(?:https?:)?//[^>]*stylesheet"
)
FETCHED = re.compile(r"url\([\"']?(?:https?:)?//|@import")
NOT_PUBLISHED = "Baselines: "
"""How README's line of methods without a paper begins."""


def table_rows(page: str) -> Iterator[list[str]]:
    for line in page.split("\n"):
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def leaves(node: Any, prefix: str = "") -> Iterator[str]:
    if not isinstance(node, dict) or not node:
        yield prefix
        return
    for key, value in node.items():
        if key != "defaults":
            yield from leaves(value, f"{prefix}.{key}" if prefix else str(key))


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONF)))
def test_every_setting_is_in_the_reference(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    listed = [one.key for one in settings.settings(text)]
    place = settings.PLACED.match(text)
    expected = [key for key in leaves(yaml.safe_load(text) or {}, place[1] if place else "") if key]
    short = {key for key in listed for other in expected if other.startswith(f"{key}.")}  # mappings in one line
    assert {key for key in expected if not any(key.startswith(f"{one}.") for one in short)} == {*listed} - short
    group = str(path.parent.relative_to(CONF))
    groups = [one for _, own in settings.PAGES.values() for one in own]
    assert ("" if group == "." else group) in groups or group in ("hydra/job_logging", "hydra/hydra_logging")


def test_comments_stand_beside_their_settings() -> None:
    text = "# What.\na:\n  b: 1   # first\n         # and more\n  c: [x, '#']  # third\nd: null\n"
    assert settings.settings(text, "g") == [
        ("g.a.b", "1", "first and more"),
        ("g.a.c", "[x, '#']", "third"),
        ("g.d", "null", ""),
    ]
    assert settings.header(text) == ["What."]


def test_every_verb_and_option_is_in_the_reference() -> None:
    page = reference.commands_page()
    found = reference.commands()
    assert len(found) > 20
    for one in found:
        assert f"### prunesweep {one.name}\n" in page
        for option in one.command.params:
            if not option.hidden and option.name != "help" and option.opts[0].startswith("-"):
                assert f"`{', '.join([*option.opts, *option.secondary_opts])}`" in page
    assert "[bold]" not in page


def test_every_column_of_a_summary_has_its_line() -> None:
    page = reference.columns_page()
    assert "| `kv_bytes` | `float` | Of the caches after prefill" in page
    assert all(f"| `{name}` |" in page for name in ("accuracy", "llm_flops_ratio", "relative_to"))


def test_readme_is_short() -> None:
    assert len(README.split("\n")) < 150


def test_readme_has_every_published_method_with_its_paper_and_its_knob() -> None:
    rows = {name: row for row in table_rows(README) for name in re.findall(r"`(\w+)`", row[0])}
    baselines = re.findall(r"`(\w+)`", README.partition(NOT_PUBLISHED)[2].partition("\n")[0])
    for path in sorted((CONF / "reducer").glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        combined = "/step/" in text
        assert path.stem in rows or path.stem in baselines or combined or path.stem == "none", path.stem
        if path.stem in rows and (paper := re.search(r"arXiv (\d{4}\.\d{5})", text)):
            assert paper[1] in rows[path.stem][1], path.stem
        if path.stem in rows and (knob := re.search(r"^knob: ([\w.]+)", text, re.MULTILINE)):
            assert f"`{knob[1]}`" == rows[path.stem][3], path.stem


FULL, HYBRID = "**Models**: ", "Hybrids"
REFUSED = "Refused, for their sliding windows: "
"""How README's families begin, by what is done with them."""
CALLED = {
    "glm46v": "GLM-4.1V to 4.6V",
    "glm4v": "GLM-4.1V to 4.6V",
    "internvl": "InternVL3",
    "llava_onevision": "LLaVA-OneVision",
    "minicpmv4_6": "MiniCPM-V 4.6",
    "perception_lm": "PerceptionLM",
    "smolvlm": "SmolVLM2",
    "video_llama_3": "VideoLLaMA3",
    "qwen2_5_omni": "Qwen2.5-Omni",
}
"""Families whose names are not their types' with other signs between the words."""
OWN_FILES = ("LLaVA-Video", "PLLaVA", "ST-LLM")
"""Families that no stock class serves."""


def spelt(name: str) -> str:
    return re.sub(r"\W|_", "", name).lower()


def test_readme_has_every_family_where_it_belongs() -> None:
    """Hybrids are those whose configurations have layers of linear attention; refused ones are those that the adapter refuses."""
    text = README.partition(FULL)[2].partition("[What holds")[0]
    full, _, rest = text.partition(HYBRID)
    hybrid, _, refused = rest.partition(REFUSED)
    listed = {
        kind: [name.strip(" .\n") for name in part.rpartition(":")[2].replace("\n", " ").split(",")]
        for kind, part in (("full", full), ("hybrid", hybrid), ("refused", refused))
    }
    expected: dict[str, set[str]] = {
        "full": {*map(spelt, OWN_FILES)},
        "hybrid": set(),
        "refused": {*map(spelt, families.REFUSED)},
    }
    for name, family in families.FAMILIES.items():
        text_config = family.network_class.config_class().get_text_config()
        kinds = set(getattr(text_config, "layer_types", None) or [])
        dense = name.removesuffix("_moe")  # mixtures of experts of a family are that family
        expected["hybrid" if "linear_attention" in kinds else "full"].add(spelt(CALLED.get(dense, dense)))
    assert {kind: {*map(spelt, names)} for kind, names in listed.items()} == expected


def test_sentences_are_counted_without_what_is_no_prose() -> None:
    page = "# Not this.\n\nOne two three. Four `five` [six](seven.md)!\n\n| not | this |\n\n"
    page += "```sh\nnor this\n```\n\n- Eight nine:\n- ten\n"
    assert prose.sentences(page) == ["One two three.", "Four `five` six!", "Eight nine:", "ten"]
    assert prose.average(prose.sentences("One two. Three four five six.")) == 3
    assert prose.sentences("---\nhide: [toc]\n---\nAs by Zhou et al. (2024) it is. So.") == [
        "As by Zhou et al (2024) it is.",
        "So.",
    ]


@pytest.mark.parametrize("page", prose.pages_of(ROOT), ids=lambda page: page.name)
def test_sentences_are_short(page: Path) -> None:
    assert prose.too_long(page.name, prose.sentences(page.read_text(encoding="utf-8"))) == []


def test_a_page_is_refused_for_its_average_and_for_one_long_sentence(tmp_path: Path, capsys, monkeypatch) -> None:
    short = "One two three. " * 50
    pages = {
        "fine.md": f"{short}\n\n{'word ' * prose.LONGEST}\n",
        "long.md": f"{short}\n\nThis {'goes on ' * prose.LONGEST}\n",
        "even.md": f"So {'many ' * prose.MOST_WORDS}words.\n",
    }
    for name, text in pages.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["prose", *(str(tmp_path / name) for name in pages)])
    with pytest.raises(SystemExit) as ended:
        prose.main()
    one, other = str(ended.value).split("\n")
    assert one.startswith(
        f"long.md: {2 * prose.LONGEST + 1} words in one sentence, at most {prose.LONGEST}; split it: This goes on"
    )
    assert other == f"even.md: {prose.MOST_WORDS + 2}.0 words a sentence on average, at most {prose.MOST_WORDS}; split some"


def test_words_are_spelt_as_they_should_be() -> None:
    if not importlib.util.find_spec("codespell_lib"):
        pytest.skip("codespell is not installed")
    places = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs", "src", "conf", "sweeps"]
    done = subprocess.run([sys.executable, "-m", "codespell_lib", *places], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_what_is_not_run_is_said_on_the_page() -> None:
    assert site.with_notes("a\n<!-- not run: why -->\n```sh\n") == "a\n*Not run by the tests: why.*\n\n```sh\n"
    assert site.from_root("[x](docs/y.md)") == "[x](y.md)"


def test_the_site_is_built_without_warnings_and_fetches_nothing(tmp_path: Path) -> None:
    if not all(map(importlib.util.find_spec, ("mkdocs", "material", "mkdocstrings"))):
        pytest.skip("the extra docs is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = sorted(tmp_path.rglob("*.html"))
    assert {"index.html", "faq.html", "glossary.html", "changelog.html"} <= {page.name for page in pages}
    assert {Path(name).stem for name in reference.PAGES} <= {page.stem for page in pages}
    assert "ps.load_model" in (tmp_path / "reference" / "python.html").read_text(encoding="utf-8")
    texts = {page: page.read_text(encoding="utf-8") for page in pages}
    assert [page.name for page, text in texts.items() if EXTERNAL.search(text)] == []
    sheets = [sheet.read_text(encoding="utf-8") for sheet in tmp_path.rglob("*.css")]
    assert sheets
    assert not any(FETCHED.search(sheet) for sheet in sheets)


def test_what_would_be_fetched_is_found() -> None:
    assert EXTERNAL.search('<script src="https://cdn.org/x.js">')
    assert EXTERNAL.search('<link href="//fonts.org/x" rel="stylesheet">')
    assert not EXTERNAL.search('<script src="assets/x.js"></script> <a href="https://arxiv.org">')
    assert FETCHED.search("url(https://fonts.org/x.woff)")
