"""Sentences that pages, cards and copy are written from: a folder for each language, a file for each part."""

from functools import cache
from importlib import resources
from typing import Any

import yaml

ENGLISH = "en"


@cache
def load_texts(name: str, *, language: str = ENGLISH) -> dict[str, Any]:
    """Load the texts of a part, such as cards.

    Parameters
    ----------
    name
        Name of the file, without ``.yaml``.
    language
        Name of the folder, such as "en".
    """
    file = resources.files("segkit.texts").joinpath(language, f"{name}.yaml")
    return yaml.safe_load(file.read_text(encoding="utf-8"))
