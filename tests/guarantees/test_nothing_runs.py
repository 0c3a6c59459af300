"""No code runs from data, from a YAML, or from a stored model."""

import ast
import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from segkit.data.io import read_npz
from segkit.data.runs import Run
from segkit.data.sources import open_source
from segkit.data.yaml_models import load_yaml
from segkit.errors import InputError, RunError, SourceError
from segkit.export.target import read_target
from segkit.segments.lineage import read_overrides

HOME = Path(__file__).parents[2]
CODE = sorted((HOME / "segkit").rglob("*.py"))
UNPICKLE = ("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal")
CALLS = {"eval", "exec", "compile", "__import__", "execfile"}  # of builtins
METHODS = {  # of anything: what it would do
    "read_pickle": "unpickle",
    "to_pickle": "pickle",
    "unsafe_load": "make objects from YAML",
    "full_load": "make objects from YAML",
    "system": "start a shell",
    "popen": "start a shell",
    "import_module": "import by name",
}
STARTS = {"segkit/notebook/chain.py": "git, to record the commit"}  # modules that start a program, and which
LAZY = "segkit/__init__.py"  # imports its own modules, by a fixed list of names
SAFE_LOADERS = ("yaml.SafeLoader", "yaml.CSafeLoader", "getattr(yaml, 'CSafeLoader', yaml.SafeLoader)")
TAGS = (
    "!!python/object/apply:os.system ['touch {mark}']",
    "!!python/object/new:os.system ['touch {mark}']",
    "!!python/object/apply:subprocess.check_output [['touch', '{mark}']]",
    "!!python/name:os.system",
    "!!python/module:os",
    "!!python/object:segkit.errors.SegkitError {{}}",
    "!!python/tuple [1, 2]",
    "!<tag:yaml.org,2002:python/object/apply:os.system> ['touch {mark}']",
    "!include {mark}",
    "!ENV ${{HOME}}",
)


class Bomb:
    """An object that makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(HOME)))
def test_no_module_can_turn_data_into_code(path: Path) -> None:
    name = str(path.relative_to(HOME))
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        imported += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not [module for module in imported if module.split(".")[0] in UNPICKLE], f"{name} imports what unpickles"
        assert "subprocess" not in imported or name in STARTS, f"{name} starts programs"
        if isinstance(node, ast.Call):
            _refuse_call(node, name=name)


def _refuse_call(node: ast.Call, *, name: str) -> None:
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    of = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    assert not (not of and called in CALLS), f"{name} calls {called}"
    if (called, name) != ("import_module", LAZY):
        assert called not in METHODS, f"{name}: {called} would {METHODS.get(called)}"
    if of == "yaml" and called in ("load", "load_all"):
        assert ast.unparse(given.get("Loader", ast.Constant(None))) in SAFE_LOADERS, f"{name}: yaml.load makes objects"
    if of in ("np", "numpy") and called == "load":
        assert ast.unparse(given.get("allow_pickle", ast.Constant(None))) == "False", (
            f"{name}: np.load must not allow pickle"
        )
    if "shell" in given:
        assert ast.unparse(given["shell"]) == "False", f"{name} starts a shell"


@pytest.mark.parametrize("tag", TAGS)
def test_a_tag_in_yaml_makes_nothing(tmp_path: Path, tag: str) -> None:
    text = "name: " + tag.format(mark=tmp_path / "mark") + "\ncolumns: {a: b}\n"
    (tmp_path / "own.yaml").write_text(text, encoding="utf-8")
    for read in (lambda path: open_source(str(path)), lambda path: read_target(str(path)), read_overrides):
        with pytest.raises(InputError, match="not valid YAML at line 1"):
            read(tmp_path / "own.yaml")
    assert not (tmp_path / "mark").exists()


def test_a_few_lines_of_yaml_do_not_expand_into_millions() -> None:
    laughs = "a0: &a0 [ha]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
    with pytest.raises(SourceError, match="its aliases expand to more than 100,000 values"):
        load_yaml(laughs, label="own.yaml")
    with pytest.raises(SourceError, match="not valid YAML|too many nested brackets"):
        load_yaml("a: &a [*a]", label="own.yaml")
    with pytest.raises(SourceError, match="too many nested brackets"):
        load_yaml("[" * 600, label="own.yaml")
    assert load_yaml("a: &a {b: 1}\nc: {<<: *a, d: 2}", label="own.yaml") == {"a": {"b": 1}, "c": {"b": 1, "d": 2}}


def test_a_pickle_in_place_of_an_array_is_refused(tmp_path: Path) -> None:
    bomb = Bomb(tmp_path / "mark")
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.array([bomb], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "objects.npz", "w") as file:
        file.writestr("centres.npy", buffer.getvalue())
    (tmp_path / "plain.npz").write_bytes(pickle.dumps(bomb))
    with zipfile.ZipFile(tmp_path / "named.npz", "w") as file:
        file.writestr("../../centres.npy", buffer.getvalue())
    for name in ("objects", "plain", "named"):
        with pytest.raises(RunError, match="cannot be read as arrays"):
            read_npz(tmp_path / f"{name}.npz")
    assert not (tmp_path / "mark").exists()


def test_a_run_keeps_nothing_that_could_run(whole_run: Path) -> None:
    endings = {path.suffix for path in whole_run.rglob("*") if path.is_file()}
    assert endings <= {".html", ".ipynb", ".json", ".npz", ".parquet"}
    for path in (whole_run / "model").glob("*.npz"):
        assert not [name for name, array in read_npz(path).items() if array.dtype.hasobject], path.name
    assert Run(whole_run).load_model()[1]
