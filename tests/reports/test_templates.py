"""Templates: tags stand nowhere else, and whatever comes in is escaped."""

import ast
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError
from markupsafe import Markup

import segkit
from segkit import templates

PACKAGE = Path(segkit.__file__).parent
MODULES = sorted(
    {path for part in ("reports", "notebook", "live", "export") for path in PACKAGE.glob(f"{part}/*.py")}
    - {PACKAGE / "reports" / "theme.py"}
)
TEMPLATES = sorted(PACKAGE.glob("*/templates/*.j2"))
TAG = re.compile(
    r"</?(a|article|b|br|code|d[dlt]|div|figcaption|figure|footer|h[1-6]|header|i|img|li|main|nav|[ou]l|p|q|script"
    r"|section|small|span|strong|style|svg|t[dhr]|table|title)\b[^>]*>"
)
PATTERN = "[^>]*"  # reads tags, and writes none


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_no_tag_stands_in_python(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    described = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
    docstrings = {ast.get_docstring(node, clean=False) for node in described}
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    tags = [text for text in texts - docstrings if TAG.search(text) and PATTERN not in text]
    assert not tags, "a tag belongs in a template"


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_only_drawings_scripts_and_stylesheets_are_trusted(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    trusted = set(re.findall(r"([\w<>\"]+)\s*\|\s*safe", text))
    assert trusted <= {"drawing", "script", "css", '"<wbr>"'}
    assert "autoescape" not in text


@given(st.text())
def test_text_comes_back_as_it_was_and_is_escaped_on_a_page(words: str) -> None:
    page = templates.html("_macros", "note", text=words)
    assert page == Markup('<p class="sk-note">{}</p>').format(words)
    line = templates.text("live", "alert_ahead", events=20, latest=words)
    expected = f"20 events lie ahead of the clock, up to {words}. They are not in the money of now."
    assert line == templates.SPACES.sub(" ", expected)
    assert "".join(templates.parts(words)) == words


def test_a_fact_that_is_missing_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        templates.text("overview", "same", segments=3)
