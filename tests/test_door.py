"""The door: few names, each loaded when it is used, described, and shown by an example that runs."""

import ast
import builtins
import doctest
import subprocess
import sys
from pathlib import Path

import pytest

import segkit

HOME = Path(__file__).parents[1]
NAMES = sorted(name for name in segkit.__all__ if not name.startswith("_"))
MAX_NAMES, MAX_README_WORDS = 30, 950


def test_the_door_has_few_names_and_shows_them_all() -> None:
    assert len(NAMES) <= MAX_NAMES
    assert dir(segkit) == sorted(segkit.__all__)
    parts = {path.stem for path in (HOME / "segkit").iterdir()}
    assert not parts & set(NAMES), "a name would be hidden by the module of that name once it is imported"
    with pytest.raises(AttributeError, match="segkit has no 'nothing'. There are start"):
        segkit.nothing  # noqa: B018


@pytest.mark.parametrize("name", NAMES)
def test_each_name_has_an_example_to_paste_after_import_segkit(name: str) -> None:
    text = getattr(segkit, name).__doc__ or ""
    assert text.splitlines()[0].endswith("."), "the first line is a sentence"
    examples = doctest.DocTestParser().get_examples(text)  # doctest runs them in the module that defines the name
    nodes = [node for one in examples for node in ast.walk(ast.parse(one.source))]
    names = [node for node in nodes if isinstance(node, ast.Name)]
    made = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    assert {node.id for node in names} - made - set(dir(builtins)) == {"segkit"}
    assert not [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "segkit"}
    assert name in used <= set(NAMES), "an example shows its own name, and nothing that is not at the door"


def test_import_loads_nothing_slow() -> None:
    code = "import sys, segkit; print(sorted({'pandas', 'duckdb', 'matplotlib', 'umap', 'IPython'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_readme_is_one_page_and_its_example_uses_the_door() -> None:
    text = (HOME / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) <= MAX_README_WORDS
    example = text.split("```python\n", 1)[1].split("```", 1)[0]
    used = {
        node.attr
        for node in ast.walk(ast.parse(example))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "segkit"
    }
    assert used and used <= set(NAMES)
