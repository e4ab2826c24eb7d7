"""What `make docs` adds to the pages in `docs/` (hooks of MkDocs): generated pages, and notes on commands that no test runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from prunesweep.dev.reference import PAGES

ROOT = Path(__file__).parents[3]
NOT_RUN = re.compile(r"^<!-- not run: (.*?) -->$", re.MULTILINE)
OWN = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}
"""Pages that lie at the repository's root, by their names on the site."""


def on_files(files: Any, config: Any) -> Any:
    """MkDocs' hook: all files of the site, the generated ones among them."""
    from mkdocs.structure.files import File

    written = {name: write() for name, write in PAGES.items()}
    written |= {name: from_root((ROOT / file).read_text(encoding="utf-8")) for name, file in OWN.items()}
    for name, text in written.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """MkDocs' hook: a page as it is built."""
    return with_notes(markdown)


def from_root(text: str) -> str:
    """A page of the repository's root, whose links lead into `docs/`."""
    return text.replace("](docs/", "](")


def with_notes(page: str) -> str:
    """Says in the text which commands no test runs, and why; in Markdown it is a comment."""
    return NOT_RUN.sub(r"*Not run by the tests: \1.*\n", page)
