"""Give the examples of docstrings the one name they start from, as after ``import segkit``."""

from typing import Any

import pytest

import segkit


@pytest.fixture(autouse=True)
def _import_segkit(doctest_namespace: dict[str, Any]) -> None:
    doctest_namespace["segkit"] = segkit
