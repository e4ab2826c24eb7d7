"""Code of somebody's own method: followed whichever way it is imported, or said to be beyond following."""

from __future__ import annotations

import re
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from prunesweep.results.keys import code as answering
from prunesweep.results.keys.code import Code, Reader, code_of
from prunesweep.results.keys.syntax import find_installed
from support.stored import ROOTS


@pytest.fixture
def method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Code]]:
    """Writes modules beside a method of somebody's own, and says what its code is."""
    folder = tmp_path / "own"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)

    def code(root: str = "ownmethod.Mine", /, **files: str) -> Code:
        for name, text in files.items():
            path = folder / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        answering.forget()
        return Reader(find_installed).code([root])

    yield code
    answering.forget()


HELPERS = {
    "an import": "from ownhelper import period\n",
    "a module": "import ownhelper\n",
    "another name": "import ownhelper as h\n",
    "inside a function": "def f():\n    import ownhelper\n    return ownhelper.period()\n",
    "in a try": "try:\n    import ownhelper\nexcept ImportError:\n    ownhelper = None\n",
    "everything of it": "from ownhelper import *\n",
    "by name": "import importlib\nh = importlib.import_module('ownhelper')\n",
    "by the older name": "h = __import__('ownhelper')\n",
    "through another module": "import ownmiddle\n",
    "through a package": "from ownpackage import handed_on\n",
    "through a package's own import": "import ownpackage.inner\n",
    "inside a class": "class Other:\n    from ownhelper import period\n",
}


@pytest.mark.parametrize("way", HELPERS)
def test_a_helper_is_followed_whichever_way_it_is_imported(method: Callable[..., Code], way: str) -> None:
    files = {
        "ownmethod": HELPERS[way] + "class Mine:\n    pass\n",
        "ownmiddle": "def late():\n    from ownhelper import period\n    return period()\n",
        "ownpackage/__init__": "from .inner import handed_on\n",
        "ownpackage/inner": "from ownhelper import period as handed_on\n",
    }
    before = method(ownhelper="def period(): return 2\n", **files)
    assert before.unfollowed == ()
    assert method(ownhelper='def period():\n    """Two."""\n    return 2  # of two\n') == before
    assert method(ownhelper="def period(): return 8\n").digest != before.digest


def test_relative_imports_and_what_packages_run_are_followed(method: Callable[..., Code]) -> None:
    files = {
        "ownpackage/__init__": "",
        "ownpackage/deep/__init__": "from ..constants import *\n",
        "ownpackage/deep/method": "from .. import helper\nfrom . import sibling\nclass Mine: pass\n",
        "ownpackage/deep/sibling": "X = 1\n",
        "ownpackage/helper": "Y = 1\n",
        "ownpackage/constants": "Z = 1\n",
    }
    root = "ownpackage.deep.method.Mine"
    digests = {method(root, **files).digest}
    for name in ("ownpackage/__init__", "ownpackage/deep/sibling", "ownpackage/helper", "ownpackage/constants"):
        digests.add(method(root, **{**files, name: "W = 2\n"}).digest)
    assert len(digests) == 5


def test_renaming_a_helper_changes_nothing(method: Callable[..., Code]) -> None:
    one = method(
        ownmethod="import ownhelper\nclass Mine:\n    def f(self): return ownhelper.period()\n",
        ownhelper="def period(): return 2\n",
    )
    other = method(
        ownmethod="import ownother\nclass Mine:\n    def f(self): return ownother.period()\n", ownother="def period(): return 2\n"
    )
    assert one.digest == other.digest


def test_the_same_name_from_another_module_is_another_code(method: Callable[..., Code]) -> None:
    texts = {"ownhelper": "def period(): return 2\n", "ownother": "def period(): return 8\n"}
    one = method(ownmethod="import ownother, ownhelper\nfrom ownhelper import period\nclass Mine:\n    p = period()\n", **texts)
    other = method(ownmethod="import ownother, ownhelper\nfrom ownother import period\nclass Mine:\n    p = period()\n", **texts)
    assert one.digest != other.digest


def test_modules_that_import_each_other_end(method: Callable[..., Code]) -> None:
    texts = {"ownmethod": "import ownhelper\nclass Mine: pass\n", "ownhelper": "import ownmethod\nX = 1\n"}
    before = method(**texts)
    assert method(**{**texts, "ownhelper": "import ownmethod\nX = 2\n"}).digest != before.digest


def test_libraries_count_by_their_versions(method: Callable[..., Code]) -> None:
    code = method(ownmethod="import numpy as np\nimport scipy.stats\nimport math\nclass Mine: pass\n")
    assert code.foreign == ("numpy", "scipy")
    assert "torch" in code_of(ROOTS).distributions
    assert code_of(ROOTS).foreign == ()


UNFOLLOWED = {
    "subproc": 'import subprocess\nclass Mine:\n    def __call__(self): return subprocess.check_output(["cat","x"])\n',
    "popen": 'import os\nclass Mine:\n    def __call__(self): return os.popen("cat x").read()\n',
    "environ_from": 'from os import environ as E\nclass Mine:\n    def __call__(self): return E.get("X")\n',
    "getenv_alias": 'import os as o\nclass Mine:\n    def __call__(self): return o.getenv("X")\n',
    "getenv_assigned": 'import os\ng = os.getenv\nclass Mine:\n    def __call__(self): return g("X")\n',
    "getattr_os": 'import os\nclass Mine:\n    def __call__(self): return getattr(os,"getenv")("X")\n',
    "osdict": 'import os\nclass Mine:\n    def __call__(self): return vars(os)["environ"]["X"]\n',
    "star_os": 'from os import *\nclass Mine:\n    def __call__(self): return getenv("X")\n',
    "builtins_open": 'import builtins\nclass Mine:\n    def __call__(self): return builtins.open("x").read()\n',
    "io_open": 'import io\nclass Mine:\n    def __call__(self): return io.open("x").read()\n',
    "os_open": 'import os\nclass Mine:\n    def __call__(self): return os.read(os.open("x",0),9)\n',
    "fileinput": 'import fileinput\nclass Mine:\n    def __call__(self): return list(fileinput.input("x"))\n',
    "linecache": 'import linecache\nclass Mine:\n    def __call__(self): return linecache.getline("x",1)\n',
    "pkgutil": 'import pkgutil\nclass Mine:\n    def __call__(self): return pkgutil.get_data("x","y")\n',
    "configparser": (
        "import configparser\nclass Mine:\n"
        '    def __call__(self):\n        c=configparser.ConfigParser(); c.read("x.ini"); return c\n'
    ),
    "sqlite": 'import sqlite3\nclass Mine:\n    def __call__(self): return sqlite3.connect("x")\n',
    "shelve": 'import shelve\nclass Mine:\n    def __call__(self): return shelve.open("x")\n',
    "urlopen": 'import urllib.request\nclass Mine:\n    def __call__(self): return urllib.request.urlopen("http://x").read()\n',
    "np_load": 'import numpy as np\nclass Mine:\n    def __call__(self): return np.load("x.npy")\n',
    "np_load_from": 'from numpy import load as ld\nclass Mine:\n    def __call__(self): return ld("x.npy")\n',
    "torch_load_partial": (
        "import torch, functools\nf=functools.partial(torch.load, weights_only=True)\n"
        'class Mine:\n    def __call__(self): return f("x")\n'
    ),
    "torch_jit": 'import torch\nclass Mine:\n    def __call__(self): return torch.jit.load("x")\n',
    "torch_from_file": 'import torch\nclass Mine:\n    def __call__(self): return torch.from_file("x",size=3)\n',
    "loadmat": 'import scipy.io\nclass Mine:\n    def __call__(self): return scipy.io.loadmat("x")\n',
    "pd_pickle": 'import polars as pl\nclass Mine:\n    def __call__(self): return pl.scan_parquet("x").collect()\n',
    "pl_json": 'import polars as pl\nclass Mine:\n    def __call__(self): return pl.read_json("x")\n',
    "np_memmap": 'import numpy as np\nclass Mine:\n    def __call__(self): return np.memmap("x")\n',
    "open_assigned": 'o = open\nclass Mine:\n    def __call__(self): return o("x").read()\n',
    "map_open": 'class Mine:\n    def __call__(self): return [f.read() for f in map(open,["x"])]\n',
    "import_dyn": 'import importlib\nN="he"+"lp"\nclass Mine:\n    def __call__(self): return importlib.import_module(N).f()\n',
    "import_alias": "from importlib import import_module as im\nclass Mine:\n    def __call__(self,n): return im(n).f()\n",
    "import_assigned": (
        "import importlib\nim = importlib.import_module\nclass Mine:\n    def __call__(self,n): return im(n).f()\n"
    ),
    "dunder_import": "class Mine:\n    def __call__(self,n): return __import__(n).f()\n",
    "sysmodules": 'import sys\nclass Mine:\n    def __call__(self): return sys.modules["hel"+"per"].f()\n',
    "sysmodules_lit": 'import sys\nclass Mine:\n    def __call__(self): return sys.modules["helper"].f()\n',
    "syspath": 'import sys\nsys.path.insert(0,"else")\nimport helper2\nclass Mine:\n    def __call__(self): return helper2.f()\n',
    "pathlib_open": 'from pathlib import Path\nclass Mine:\n    def __call__(self): return Path("x").open().read()\n',
    "exists": 'import os\nclass Mine:\n    def __call__(self): return os.path.exists("x")\n',
    "glob": 'import glob\nclass Mine:\n    def __call__(self): return len(glob.glob("*.x"))\n',
    "hydra_get": 'from hydra.utils import get_object\nclass Mine:\n    def __call__(self): return get_object("helper.f")()\n',
    "hydra_inst": "from hydra.utils import instantiate\nclass Mine:\n    def __call__(self,c): return instantiate(c)\n",
    "pickle_loads": "import pickle\nclass Mine:\n    def __call__(self,b): return pickle.loads(b)\n",
    "ctypes": 'import ctypes\nclass Mine:\n    def __call__(self): return ctypes.cdll.LoadLibrary("x.so").f()\n',
    "torch_ops": 'import torch\ntorch.ops.load_library("x.so")\nclass Mine:\n    def __call__(self): return torch.ops.a.b()\n',
    "cpp_ext": 'from torch.utils.cpp_extension import load\nclass Mine:\n    def __call__(self): return load("x",["x.cpp"])\n',
    "cpp_inline": (
        'from torch.utils.cpp_extension import load_inline\nclass Mine:\n    def __call__(self): return load_inline("x","")\n'
    ),
    "time": "import time\nclass Mine:\n    def __call__(self): return time.time()\n",
    "random": "import random\nclass Mine:\n    def __call__(self): return random.random()\n",
    "argv": "import sys\nclass Mine:\n    def __call__(self): return sys.argv\n",
    "getcwd": "import os\nclass Mine:\n    def __call__(self): return os.getcwd()\n",
    "hostname": "import socket\nclass Mine:\n    def __call__(self): return socket.gethostname()\n",
    "json_load": "import json\nclass Mine:\n    def __call__(self,f): return json.load(f)\n",
    "av": 'class Mine:\n    def __call__(self):\n        import av\n    return av.open("x.png")\n',
    "yamlomega": 'from omegaconf import OmegaConf\nclass Mine:\n    def __call__(self): return OmegaConf.load("x.yaml")\n',
    "tomllib": "import tomllib\nclass Mine:\n    def __call__(self): return tomllib.loads(self.t)\n",
    "exec_b": 'import builtins\nclass Mine:\n    def __call__(self): return builtins.exec("1")\n',
    "runpy": 'import runpy\nclass Mine:\n    def __call__(self): return runpy.run_path("x.py")\n',
    "eval": 'class Mine:\n    def __call__(self): return eval("2")\n',
    "path_text": 'from pathlib import Path\nclass Mine:\n    def __call__(self): return Path("x").read_text()\n',
    "star_library": 'from omegaconf import *\nclass Mine:\n    def __call__(self): return OmegaConf.load("x.yaml")\n',
    "alias_library": (
        'from omegaconf import OmegaConf\nOC = OmegaConf\nclass Mine:\n    def __call__(self): return OC.load("x.yaml")\n'
    ),
    "getattr_library": 'import torch\nclass Mine:\n    def __call__(self): return getattr(torch, "lo" + "ad")("x")\n',
    "getattr_itself": "class Mine:\n    def __call__(self, name): return getattr(self, name)()\n",
    "getattr_map": 'import torch\nclass Mine:\n    def __call__(self): return [*map(getattr, [torch], ["load"])]\n',
    "attrgetter": (
        'import operator, torch\nclass Mine:\n    def __call__(self): return operator.attrgetter("jit.load")(torch)("x")\n'
    ),
    "through_library": 'import torch\nclass Mine:\n    def __call__(self): return torch.os.environ["X"]\n',
    "through_pure": "import dataclasses\nclass Mine:\n    def __call__(self): return dataclasses.sys.argv\n",
    "from_pure": 'from logging import os as o\nclass Mine:\n    def __call__(self): return o.environ["X"]\n',
    "through_helper": 'import helper\nclass Mine:\n    def __call__(self): return helper.torch.load("x")\n',
    "from_helper": 'from helper import torch as t\nclass Mine:\n    def __call__(self): return t.load("x")\n',
    "through_own": "from prunesweep.targets import instantiate\nclass Mine:\n    def __call__(self, c): return instantiate(c)\n",
    "globals": "class Mine:\n    def __call__(self, n): return globals()[n]()\n",
    "frames": 'def f(): pass\nclass Mine:\n    def __call__(self): return f.__globals__["x"]\n',
    "not_installed": "import nowhere_at_all\nclass Mine:\n    def __call__(self): return nowhere_at_all.f()\n",
    "spec": 'from importlib import util\nclass Mine:\n    def __call__(self): return util.find_spec("x")\n',
    "hub": "import huggingface_hub as h\nclass Mine:\n    def __call__(self): return h.HfApi()\n",
    "input": "class Mine:\n    def __call__(self): return input()\n",
}
"""Ways to what is not in the code, each in a method of its own."""


@pytest.mark.parametrize("way", UNFOLLOWED)
def test_what_cannot_be_followed_is_said(method: Callable[..., Code], way: str) -> None:
    files = {"helper": "import torch\ndef f(): return torch.ones(2)\n", "ownmethod": UNFOLLOWED[way]}
    found = method(**files).unfollowed
    assert found
    assert all(re.match(r"ownmethod, line [1-9]\d*, ", reason) for reason in found)


REASONS = {
    "imports a module whose name is computed": "import importlib\nh = importlib.import_module('own' + 'helper')\n",
    "runs code that is not there to be read": "h = eval('2')\n",
    "reads a file": "TABLE = open('table.txt').read()\n",
    "reads a file, by torch": "import torch\nTABLE = torch.load('table.pt')\n",
    "imports os, which can read what is not in the code": "import os\nPERIOD = os.environ['PERIOD']\n",
    "loads a compiled library": "import torch\ntorch.ops.load_library('x.so')\n",
}


@pytest.mark.parametrize("reason", REASONS)
def test_what_cannot_be_followed_is_named_with_its_line(method: Callable[..., Code], reason: str) -> None:
    found = method(ownmethod=REASONS[reason] + "class Mine: pass\n").unfollowed
    assert any(re.match("ownmethod, line [12], ", one) and (one.endswith(reason.partition(", by")[0])) for one in found)


FOLLOWED = {
    "other meanings": (
        "import re\nimport torch\nP = re.compile('x')\nclass Mine:\n    def f(self, m): return torch.compile(m.eval())\n"
    ),
    "a helper": (
        "try:\n    from helper import f\nexcept ImportError:\n    f = None\nclass Mine:\n    def __call__(self): return f()\n"
    ),
    "a helper that is called load": "import helper\nclass Mine:\n    def __call__(self): return helper.load_table()\n",
    "its own methods": "class Mine:\n    def read_one(self): return 1\n    def __call__(self): return self.read_one()\n",
    "names that stand there": "class Mine:\n    def __call__(self, x): return getattr(x, 'ndim', 0), vars(self), self.__dict__\n",
    "what computes": (
        "from __future__ import annotations\n"
        "import math, functools, itertools, dataclasses, typing, collections.abc, operator, copy\n"
        "import logging, warnings, statistics, heapq, types, contextlib\nfrom collections.abc import Sequence\n"
        "import numpy as np\nimport torch\nimport torch.nn.functional as F\nlog = logging.getLogger(__name__)\n"
        "@dataclasses.dataclass(frozen=True)\nclass Mine:\n    n: int = 2\n"
        "    def __call__(self, x: torch.Tensor):\n        key = operator.attrgetter('n')\n"
        "        return F.softmax(x.float(), -1), np.asarray(sorted([self], key=key)), torch.cdist(x, x), x.split(2)\n"
    ),
    "a type from elsewhere": (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pathlib import Path\nclass Mine: pass\n"
    ),
    "weights that are there": "import torch\nclass Mine:\n    def f(self, m, w): m.load_state_dict(w)\n",
    "methods of the package": (
        "from prunesweep.reducers import *\nfrom prunesweep.reducers.prunevid import Merge\nclass Mine(Merge): pass\n"
    ),
}


@pytest.mark.parametrize("what", FOLLOWED)
def test_what_computes_is_followed(method: Callable[..., Code], what: str) -> None:
    files = {"helper": "def f(): return 2\ndef load_table(): return [2]\n", "ownmethod": FOLLOWED[what]}
    assert method(**files).unfollowed == ()


def test_a_class_that_is_in_no_file_cannot_be_followed() -> None:
    assert Reader(find_installed).code(["nowhere_at_all.Mine"]).unfollowed == (
        "nowhere_at_all.Mine is in no module that can be found",
    )


def test_a_module_without_source_is_its_bytes(method: Callable[..., Code], tmp_path: Path) -> None:
    compiled = tmp_path / "own" / f"ownfast{next(s for s in importlib_suffixes())}"
    compiled.parent.mkdir(exist_ok=True)
    compiled.write_bytes(b"one")
    before = method(ownmethod="import ownfast\nclass Mine: pass\n")
    compiled.write_bytes(b"two")
    assert method().digest != before.digest


def importlib_suffixes() -> list[str]:
    from importlib.machinery import EXTENSION_SUFFIXES

    return EXTENSION_SUFFIXES


def test_nothing_is_imported_by_looking(method: Callable[..., Code]) -> None:
    method(
        ownmethod="import ownhelper\nraise SystemExit('imported')\nclass Mine: pass\n", ownhelper="raise SystemExit('imported')\n"
    )
    assert not {"ownmethod", "ownhelper"} & set(sys.modules)


def test_code_in_an_archive_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = []
    for number in (1, 2):
        archive = tmp_path / f"{number}.zip"
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("ownzipped.py", f"X = {number}\nclass Mine: pass\n")
        with monkeypatch.context() as patch:
            patch.syspath_prepend(archive)
            answering.forget()
            digests.append(Reader(find_installed).code(["ownzipped.Mine"]).digest)
    answering.forget()
    assert len(set(digests)) == 2


READ_AS_DATA = {
    "of a module": "import ownhelper\nX = len(ownhelper.__doc__)\n",
    "of a function": "import ownhelper\nX = len(ownhelper.period.__doc__)\n",
    "of what was imported": "from ownhelper import period\nX = len(period.__doc__)\n",
    "by inspect": "from inspect import getdoc\nfrom ownhelper import period\nX = getdoc(period)\n",
    "by a name as text": "import ownhelper\nX = getattr(ownhelper, '__doc__')\n",
    "by another module": "import ownhelper\nimport ownreader\nX = ownreader.text_of(ownhelper.period)\n",
    "of what another module imports": "import ownmiddle\nX = ownmiddle.period.__doc__\n",
}
READERS = {"ownreader": "def text_of(thing):\n    return thing.__doc__\n", "ownmiddle": "from ownhelper import period\n"}


@pytest.mark.parametrize("way", READ_AS_DATA)
def test_a_docstring_that_is_read_as_data_is_code(method: Callable[..., Code], way: str) -> None:
    files = {"ownmethod": READ_AS_DATA[way] + "class Mine:\n    pass\n", **READERS}
    one, two = (f'"""{text}"""\ndef period():\n    """{text}"""\n    return 2\n' for text in ("of two", "of eight"))
    before = method(ownhelper=one, **files)
    assert method(ownhelper=two, **files).digest != before.digest
    assert method(ownhelper=one, **files) == before
    assert method(ownhelper=one + "# a comment\n", **files) == before


def test_docstrings_that_nobody_reads_are_none(method: Callable[..., Code]) -> None:
    files = {"ownmethod": "import ownhelper\nclass Mine:\n    pass\n"}
    before = method(ownhelper='"""One."""\n', **files)
    assert method(ownhelper='"""Two."""\n', **files) == before
    assert method(ownhelper="", **files) == before
