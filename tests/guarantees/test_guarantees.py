"""README says what segkit promises, and each promise has its test."""

import ast
import re
from pathlib import Path

HOME = Path(__file__).parents[2]
ROW = re.compile(r"^\| (?P<promise>[^|]+) \| `tests/guarantees/(?P<file>test_\w+\.py)` \|$", re.MULTILINE)
LONGEST = 120  # characters of a promise: one plain sentence


def rows() -> dict[str, str]:
    """Promise -> its test, as README has them."""
    text = (HOME / "README.md").read_text(encoding="utf-8")
    part = text.split("\n## What it promises\n", 1)[1].split("\n## ", 1)[0]
    return {found["promise"].strip(): found["file"] for found in ROW.finditer(part)}


def test_each_promise_of_the_readme_has_a_test_and_each_test_a_promise() -> None:
    kept = {path.name for path in Path(__file__).parent.glob("test_*.py")} - {Path(__file__).name}
    assert len(rows()) >= 11
    assert set(rows().values()) <= kept, "a promise without its test"
    assert kept <= set(rows().values()), "a test whose promise README does not make"


def test_a_promise_is_one_plain_sentence() -> None:
    for promise in rows():
        assert promise[0].isupper() and promise.endswith(".") and len(promise) <= LONGEST, promise
        assert promise.count(".") == 1 and not re.search(r"\b(should|try|aim)\b", promise), promise


def test_every_test_of_a_promise_says_in_its_first_line_what_is_promised() -> None:
    for path in Path(__file__).parent.glob("test_*.py"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path.name
