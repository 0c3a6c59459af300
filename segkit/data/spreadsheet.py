"""Texts in a CSV that people open in a spreadsheet, which would run what begins like a formula."""

import csv
import re

import pandas as pd

FORMULA = re.compile(r"'*[=+\-@\t\r\n]")  # what a cell begins with that would be run, or hidden; or was marked before
PLAIN_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")  # begins like a formula and is none: a phone, a negative amount


def harmless(value: str) -> str:
    """Text that a spreadsheet shows and does not run: what would begin a formula gets an apostrophe before it.

    >>> harmless("=1+1"), harmless("-12.5"), harmless("+4915112345678"), harmless("it's =fine")
    ("'=1+1", '-12.5', '+4915112345678', "it's =fine")
    """
    return f"'{value}" if FORMULA.match(value) and not PLAIN_NUMBER.fullmatch(value) else value


def as_given(value: str) -> str:
    """The text that `harmless` was given.

    >>> as_given("'=1+1"), as_given("-12.5"), as_given(harmless("'=1"))
    ('=1+1', '-12.5', "'=1")
    """
    return value[1:] if value.startswith("'") and harmless(value[1:]) != value[1:] else value


def quoting_of(table: pd.DataFrame) -> int:
    """How a table is quoted: all of it where a text holds \\r, a line end that pandas would let stand bare."""
    texts = table.select_dtypes(exclude="number")
    bare = any(texts[name].astype(str).str.contains("\r", regex=False).any() for name in texts)
    return csv.QUOTE_NONNUMERIC if bare else csv.QUOTE_MINIMAL
