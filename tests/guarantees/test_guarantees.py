"""Each guarantee in docs/guarantees.md has its test, and each test here its guarantee."""

import ast
import re
from pathlib import Path

HOME = Path(__file__).parents[2]
ROW = re.compile(r"^\| (?P<guarantee>[^|]+) \| `tests/guarantees/(?P<file>test_\w+\.py)` \|$", re.MULTILINE)
MAX_CHARACTERS = 120  # of a guarantee: one plain sentence


def rows() -> dict[str, str]:
    """Guarantee -> its test, as the document has them."""
    text = (HOME / "docs" / "guarantees.md").read_text(encoding="utf-8")
    return {found["guarantee"].strip(): found["file"] for found in ROW.finditer(text)}


def test_each_guarantee_has_a_test_and_each_test_a_guarantee() -> None:
    present = {path.name for path in Path(__file__).parent.glob("test_*.py")} - {Path(__file__).name}
    assert len(rows()) >= 11
    assert set(rows().values()) <= present, "a guarantee without its test"
    assert present <= set(rows().values()), "a test whose guarantee is not in the document"


def test_a_guarantee_is_one_plain_sentence() -> None:
    for guarantee in rows():
        assert guarantee[0].isupper() and guarantee.endswith(".") and len(guarantee) <= MAX_CHARACTERS, guarantee
        assert guarantee.count(".") == 1 and not re.search(r"\b(should|try|aim)\b", guarantee), guarantee


def test_every_file_of_tests_states_its_guarantee_in_the_first_line() -> None:
    for path in Path(__file__).parent.glob("test_*.py"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path.name
