"""The door: few names, each loaded when it is used, described, and shown by an example that runs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import segkit

HOME = Path(__file__).parents[1]
NAMES = sorted(name for name in segkit.__all__ if not name.startswith("_"))
MAX_NAMES, MAX_README_WORDS = 30, 1_000


def test_the_door_has_few_names_and_shows_them_all() -> None:
    assert len(NAMES) <= MAX_NAMES
    assert set(NAMES) <= set(dir(segkit))
    parts = {path.stem for path in (HOME / "segkit").iterdir()}
    assert not parts & set(NAMES), "a name would be hidden by the module of that name once it is imported"
    with pytest.raises(AttributeError, match="segkit has no 'nothing'"):
        segkit.nothing  # noqa: B018


@pytest.mark.parametrize("name", NAMES)
def test_each_name_is_reported_and_has_an_example(name: str) -> None:
    text = getattr(segkit, name).__doc__ or ""
    assert text.splitlines()[0].endswith("."), "the first line is a sentence"
    assert ">>> " in text, "an example that runs: doctest collects it with the module that defines the name"


def test_import_loads_nothing_slow() -> None:
    code = "import sys, segkit; print(sorted({'pandas', 'duckdb', 'matplotlib', 'umap'} & set(sys.modules)))"
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
