"""No figure in a persona or an advertisement is without a source: each is derived again from the tables of the run."""

import json
import re
from pathlib import Path

import pytest

from segkit.data.runs import Run, load_run
from segkit.personas.copy import COPY_METADATA
from segkit.personas.facts import PLACEHOLDER, FactError, verify
from tests.reports.card_texts import card_texts

DIGIT = re.compile(r"\d")


@pytest.fixture(scope="module")
def run(whole_run: Path) -> Run:
    return load_run(whole_run)


def test_every_figure_of_a_card_is_a_fact_and_no_segment_lacks_one(run: Run) -> None:
    personas, segments = run.table("personas"), run.table("segments")
    verify(personas, run.table("facts"))
    assert personas["segment"].tolist() == segments["segment"].tolist() and personas["name"].is_unique
    assert set(run.table("facts")["segment"]) == set(segments["segment"])
    with_story = personas[personas["caution"] == ""]
    assert len(with_story) and (with_story[["size", "how_they_shop", "next"]] != "").all().all()
    claims = run.table("claims")
    assert claims["holds"].all() and set(claims["segment"]) == set(segments["segment"])


def test_every_fact_has_its_source(run: Run) -> None:
    facts = run.table("facts")
    assert facts["fact"].is_unique and (facts["how"].str.len() > 5).all()
    numbers = facts.set_index("fact")["value"].dropna()
    sizes = run.table("segments").set_index("segment")["customers"]
    assert {segment: int(numbers[f"{segment}.customers"]) for segment in sizes.index} == sizes.to_dict()


def test_numbers_of_the_page_are_those_of_the_tables(run: Run) -> None:
    page = card_texts((run.path / "04_personas.html").read_text(encoding="utf-8"))
    page = page[[name for name in page if not name.startswith("copy_")]]  # checked below
    personas = run.table("personas").set_index("segment")
    assert set(page["segment"]) == set(personas.index)
    read = page.merge(personas[["forms"]], left_on="segment", right_index=True)
    verify(read, run.table("facts"))
    changed = read.copy()
    column = next(c for c in read if c not in ("segment", "forms") and DIGIT.search(str(read.loc[0, c])))
    changed.loc[0, column] = DIGIT.sub(lambda found: str(9 - int(found[0])), changed.loc[0, column], count=1)
    with pytest.raises(FactError):
        verify(changed, run.table("facts"))


def test_an_advertisement_holds_only_figures_that_are_facts(run: Run) -> None:
    copy, facts = run.table("copy"), run.table("facts")
    verify(copy, facts, plain=COPY_METADATA)
    for forms in copy["forms"]:
        assert not DIGIT.search(PLACEHOLDER.sub("", json.loads(forms)["text"])), forms
    with pytest.raises(FactError):
        verify(copy.assign(text=copy["text"] + " 40 % off."), facts, plain=COPY_METADATA)
