"""Says of rewritten code that it answers as before: `python -m prunesweep.dev.alike BEFORE`.

BEFORE is the folder `src` of a checkout from before the rewrite.  Of every method and model that this package brings, today's
fingerprint counts from now on as the one of before, so that stored records are used again.  To be run only where the answers
are the same: `tests/laws/test_golden.py` and the other laws must pass.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from prunesweep.dev import parser_of
from prunesweep.errors import write_anywhere
from prunesweep.paths import CONF, DATA, user_path
from prunesweep.reducers import SLOTS
from prunesweep.results.keys.alike import TABLE
from prunesweep.results.keys.code import ANSWERING, Reader
from prunesweep.results.keys.fingerprint import classes
from prunesweep.results.keys.syntax import Folder, find_installed
from prunesweep.targets import TARGET

PROTOCOL = "prunesweep.engine.protocol.Protocol"
MATCH = "prunesweep.reducers.Match"
STEPS = tuple(sorted((*SLOTS, "match")))
"""Parts of a reducer, in the order in which `classes` names them."""


def main() -> None:
    write_anywhere()
    parser = parser_of(__file__, __doc__)
    parser.add_argument("before", type=user_path, help="folder src of a checkout from before")
    before = parser.parse_args().before
    then = Reader(Folder(before))
    counted = json.loads((before / "prunesweep" / TABLE.relative_to(DATA.parent)).read_text())
    now = Reader(find_installed)
    answered = [root for root in ANSWERING if _is_there(then, root)]  # others have come since
    found = {}
    for roots in combinations():
        if not all(_is_there(then, root) for root in roots):
            continue  # a new method
        old, new = then.code([*answered, *roots]).digest, now.code([*ANSWERING, *roots]).digest
        found[new] = counted.get(old, old)
    TABLE.write_text(json.dumps({new: old for new, old in sorted(found.items()) if new != old}, indent=1) + "\n")
    print(f"{len(found)} combinations of methods and models; {sum(new != old for new, old in found.items())} were rewritten")


def _is_there(reader: Reader, name: str) -> bool:
    module, left = reader.split(name)
    found = reader.module(module)
    return found is not None and (not left or left[0] in found.definitions)


def combinations() -> Iterator[tuple[str, ...]]:
    """Roots of every method that has a YAML, whole and with each part taken out, on every model."""
    methods = {roots: None for path in sorted((CONF / "reducer").glob("*.yaml")) for roots in _methods(_read(path))}
    models = {str(_read(path)["load"][TARGET]): None for path in sorted((CONF / "model").glob("*.yaml"))}
    for method, model in itertools.product(methods, models):
        yield (*method, PROTOCOL, model)


def _methods(raw: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    parts = {**raw, "match": {TARGET: MATCH}}
    there = [step for step in STEPS if parts.get(step)]
    for some in itertools.chain.from_iterable(itertools.combinations(there, n) for n in range(len(there) + 1)):
        yield (str(raw[TARGET]), *(name for step in some for name in classes(_as_described(parts[step]))))


def _as_described(node: Any) -> Any:
    """As `fingerprint.described` says it of an object."""
    return {("class" if key == TARGET else key): value for key, value in node.items()}


def _read(path: Path) -> dict[str, Any]:
    raw: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    named = [entry for entry in raw.get("defaults", ()) if isinstance(entry, str) and entry != "_self_"]
    base = {key: value for name in named if "@" not in name for key, value in _read(path.with_stem(name)).items()}
    parts = [name.partition("@")[::2] for name in named if "@" in name]
    return {**base, **{slot: _read(CONF / f"{place.strip('/')}.yaml") for place, slot in parts}, **raw}


if __name__ == "__main__":
    main()
