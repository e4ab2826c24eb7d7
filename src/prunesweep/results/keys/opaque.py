"""What a module of somebody else may do that no reading of it can follow, so that its records cannot be used again.

Not seen are: code that a library is told to load by a name in a setting, attributes that are set from outside, and files of an
installed distribution that were edited by hand.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from prunesweep.results.keys.syntax import Module, dotted_name

FILE, TEXT, LIBRARY = "reads a file", "runs code that is not there to be read", "loads a compiled library"
BUILTINS = {"eval": TEXT, "exec": TEXT, "compile": TEXT, "open": FILE}
"""Called by these names alone: `model.eval()` and `re.compile()` are something else."""
FUNCTIONS = {
    **{f"{module}.load": FILE for module in ("torch", "numpy", "pickle", "joblib", "json")},
    **dict.fromkeys(("torch.hub.load", "runpy.run_path", "runpy.run_module"), TEXT),
    **dict.fromkeys(("os.getenv", "os.environ", "os.environb"), "reads the environment"),
}
METHODS = {
    **dict.fromkeys(("open", "read_text", "read_bytes", "fromfile", "loadtxt", "genfromtxt", "memmap"), FILE),
    **dict.fromkeys(("load_file", "safe_open", "from_pretrained", "hf_hub_download", "read_csv", "read_parquet"), FILE),
    **dict.fromkeys(("exec_module", "spec_from_file_location", "SourceFileLoader"), TEXT),
    **dict.fromkeys(("CDLL", "LoadLibrary", "load_library"), LIBRARY),
}
"""Whatever they are called on."""


def unknown(node: ast.AST, module: Module) -> Iterator[str]:
    """What a node does that cannot be followed."""
    if isinstance(node, (ast.Name, ast.Attribute)):
        called = module.meant(dotted_name(node) or "")
        if called in BUILTINS and called not in module.definitions:
            yield BUILTINS[called]
        if called in FUNCTIONS:
            yield FUNCTIONS[called]
    if isinstance(node, ast.Call):
        called = module.meant(dotted_name(node.func) or "")
        last = node.func.attr if isinstance(node.func, ast.Attribute) else called.rpartition(".")[2] if "." in called else ""
        if called not in FUNCTIONS and last in METHODS:
            yield METHODS[last]
