"""No page, notebook or summary of a run holds a customer's id, words, order or own total."""

import re
from pathlib import Path

import pandas as pd
import pytest

from segkit.data.runs import load_run

WORDS = 6  # of a customer's text: so many in a row are theirs, fewer may be anyone's
LEAST_DIGITS = 6  # of a total to the cent, so that no other customer has it by chance


@pytest.fixture(scope="module")
def shown(whole_run: Path) -> dict[str, str]:
    """File -> its text, of everything in a run that people are shown or send on."""
    files = [path for path in whole_run.rglob("*") if path.suffix in (".html", ".ipynb", ".json")]
    assert len(files) > 10
    return {path.name: path.read_text(encoding="utf-8") for path in files}


@pytest.fixture(scope="module")
def events(made_up_company: Path) -> pd.DataFrame:
    return pd.read_parquet(made_up_company.parent / "events.parquet")


def test_no_id(shown: dict[str, str]) -> None:
    assert not [name for name, text in shown.items() if "kestrel" in text or "-quill" in text]


def test_no_order_and_no_words_of_a_customer(shown: dict[str, str], events: pd.DataFrame) -> None:
    assert events["order"].str.fullmatch(r"C\d{6}-\d+").all()
    assert not [name for name, text in shown.items() if re.search(r"\bC\d{6}-\d+", text)]
    texts = events["text"].dropna()
    alone = texts[texts.str.split().str.len() >= WORDS].unique()
    assert len(alone) > 20
    assert not [(name, words) for name, text in shown.items() for words in alone if words in text]


def test_no_total_of_one_customer_to_the_cent(whole_run: Path, shown: dict[str, str]) -> None:
    spend = load_run(whole_run).table("features")["spend"].round(2)
    totals = {f"{value:.2f}" for value in spend if len(f"{value:.2f}".replace(".", "")) >= LEAST_DIGITS}
    assert len(totals) > 100
    pages = {name: text.replace(",", "") for name, text in shown.items() if name.endswith((".html", ".json"))}
    assert not [(name, n) for name, text in pages.items() for n in re.findall(r"\d+\.\d\d\b", text) if n in totals]
