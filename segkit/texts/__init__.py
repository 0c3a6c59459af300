"""Sentences that pages, cards and copy are written from: a folder for each language, a file for each part.

What has no German, say, is English: a text of a file by its name, a phrase in the code by itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import resources
from typing import Any

import yaml

from segkit.errors import InputError

ENGLISH = "en"
_usual = [ENGLISH, ENGLISH]  # language of the page, and of names; what is spoken outside of blocks
_in_block: ContextVar[tuple[str, str] | None] = ContextVar("in_block", default=None)  # of one thread


def languages() -> list[str]:
    """List the languages that there are texts of.

    >>> languages()
    ['de', 'en']
    """
    folders = resources.files("segkit.texts").iterdir()
    return sorted(folder.name for folder in folders if folder.joinpath("cards.yaml").is_file())


def check_language(language: str) -> None:
    """Refuse a language that there are no texts of. Raises `InputError`."""
    if language not in languages():
        raise InputError(
            f"--language {language}: there are no texts in this language. Give {' or '.join(languages())}."
        )


def spoken() -> str:
    """Return the language in which texts and figures are written now."""
    return (_in_block.get() or _usual)[0]


def language_of_names() -> str:
    """Return the language of the names that a run gives, on whichever page it gives them."""
    return (_in_block.get() or _usual)[1]


def speak(language: str, *, names: str) -> None:
    """Write texts and figures in a language from now on in all threads, and give names in one."""
    _usual[:] = [language, names]


@contextmanager
def speaking(language: str, *, names: str = "") -> Iterator[None]:
    """Write texts and figures in a language within a block of this thread, and give names in it or in another."""
    before = _in_block.set((language, names or language))
    try:
        yield
    finally:
        _in_block.reset(before)


def phrase(english: str) -> str:
    """Return a short text of the code in the language that is spoken; itself where there is no other.

    >>> with speaking("de"):
    ...     phrase("no single need")
    'kein einzelner Bedarf'
    """
    return _phrase(english, spoken())


def name_phrase(english: str) -> str:
    """Return a part of a name in the language of names."""
    return _phrase(english, language_of_names())


def _phrase(english: str, language: str) -> str:
    return english if language == ENGLISH else _load("phrases", language).get(english, english)


def page_language(step: str, *, language: str) -> str:
    """Return the language of a page of a run: its own, or English where the page has not been translated."""
    return language if language != ENGLISH and step in _load("pages", language) else ENGLISH


def has_texts(name: str) -> bool:
    """Return whether the language that is spoken has the texts of a part."""
    return resources.files("segkit.texts").joinpath(spoken(), f"{name}.yaml").is_file()


def load_texts(name: str) -> dict[str, Any]:
    """Load the texts of a part, such as cards, in the language that is spoken.

    Parameters
    ----------
    name
        Name of the file, without ``.yaml``.
    """
    return _load(name, spoken())


@cache
def _load(name: str, language: str) -> dict[str, Any]:
    file = resources.files("segkit.texts").joinpath(language, f"{name}.yaml")
    text = file.read_text(encoding="utf-8")
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
