"""Cards of a whole run: what the page says is what the facts say, and no figure can be changed unseen."""

import itertools
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segkit.data.runs import load_run
from segkit.personas.copy import COPY_METADATA
from segkit.personas.facts import FactError, verify
from tests.reports.card_texts import card_texts

NUMBER = re.compile(r"\d[\d,.]*")
TRIED = 400  # changes of each kind


@pytest.fixture(scope="module")
def page(whole_run: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The texts on the page with the forms that the run keeps, and the facts."""
    run = load_run(whole_run)
    read = card_texts((whole_run / "04_personas.html").read_text(encoding="utf-8"))
    read = read[[c for c in read if not c.startswith("copy_")]]
    return read.merge(run.table("personas")[["segment", "forms"]], on="segment"), run.table("facts")


def places(table: pd.DataFrame) -> list[tuple[int, str, tuple[int, int]]]:
    columns = [c for c in table if c not in ("segment", "forms")]
    cells = itertools.product(range(len(table)), columns)
    return [(row, column, m.span()) for row, column in cells for m in NUMBER.finditer(table.loc[row, column])]


def test_every_text_on_the_page_is_derived_again(page: tuple, whole_run: Path) -> None:
    table, facts = page
    run = load_run(whole_run)
    verify(table, facts)
    verify(run.table("personas"), facts)
    verify(run.table("copy"), facts, plain=COPY_METADATA)
    assert len(table) == len(run.table("segments")) and len(places(table)) > 300


def test_any_one_figure_changed_on_the_page_is_found(page: tuple) -> None:
    table, facts = page
    rng = np.random.default_rng(1)
    held = places(table)
    for number in rng.choice(len(held), size=min(TRIED, len(held)), replace=False):
        row, column, (start, end) = held[number]
        one = table[table["segment"] == table.loc[row, "segment"]].copy()
        digit = one.loc[row, column][start]
        text = one.loc[row, column]
        one.loc[row, column] = text[:start] + str((int(digit) + 1 + rng.integers(8)) % 10) + text[start + 1 :]
        with pytest.raises(FactError):
            verify(one, facts)


@pytest.mark.slow
def test_any_two_figures_exchanged_on_the_page_are_found(page: tuple) -> None:
    table, facts = page
    rng = np.random.default_rng(2)
    held = places(table)
    for _ in range(TRIED):
        first, second = (held[i] for i in rng.choice(len(held), size=2, replace=False))
        figures = [table.loc[row, column][slice(*span)] for row, column, span in (first, second)]
        if figures[0] == figures[1]:
            continue
        changed = table[table["segment"].isin([table.loc[spot[0], "segment"] for spot in (first, second)])].copy()
        both = sorted(zip((first, second), figures[::-1], strict=True), key=lambda each: each[0][2], reverse=True)
        for (row, column, (start, end)), figure in both:
            text = changed.loc[row, column]
            changed.loc[row, column] = text[:start] + figure + text[end:]
        with pytest.raises(FactError):
            verify(changed, facts)
