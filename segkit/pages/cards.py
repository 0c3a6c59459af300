"""Personas as HTML: a card for each, in which every figure says how it was made."""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
from markupsafe import Markup

from segkit import templates
from segkit.actions.copy_check import LABELS
from segkit.actions.facts import FORMS_COLUMN, PLACEHOLDER, Fact, facts_from
from segkit.pages.look import look


def persona_cards_html(
    personas: pd.DataFrame,
    *,
    differences: pd.DataFrame | None = None,
    facts: pd.DataFrame | None = None,
    copy: pd.DataFrame | None = None,
) -> Markup:
    """A card for each persona, in the order given; two a page when printed.

    Takes  personas: text columns, already rendered, and their forms where a run has them
    Gives  HTML; each text carries the name of its column (data-part), each figure how it was computed (title)

    Parameters
    ----------
    bars : of `bars.strongest`: draws the differences
    facts : the table of the run: says how each figure was computed
    copy : the table of the run: what to say
    """
    drawn = dict(list(differences.groupby("segment"))) if differences is not None else {}
    copies = dict(list(copy.groupby("segment"))) if copy is not None and len(copy) else {}
    facts_by_segment: dict[str, dict[str, Fact]] = {}
    for fact in facts_from(facts) if facts is not None else []:
        facts_by_segment.setdefault(fact.segment, {})[fact.name] = fact
    rows = []
    for row in personas.to_dict("records"):
        own = row["segment"]
        texts = _traced(row, facts=facts_by_segment.get(own, {}))
        rows.append(
            {
                "segment": own,
                "look": look(own),
                "name": row["name"],
                "texts": texts,
                "bars": _bars(drawn[own]) if own in drawn and "bar_1" in texts else [],
                "messages": copies[own].to_dict("records") if own in copies else [],
            }
        )
    return templates.html("personas", "cards", rows=rows, slots=LABELS)


def _traced(row: Mapping[str, Any], *, facts: Mapping[str, Fact]) -> dict[str, list[str | Fact]]:
    """The texts of a card, each as its words and the facts it names; whole where its facts are not there."""
    forms = json.loads(row[FORMS_COLUMN]) if FORMS_COLUMN in row else {}
    texts: dict[str, list[str | Fact]] = {}
    for name, words in row.items():
        if not isinstance(words, str) or not words.strip():
            continue
        form = forms.get(name)
        if form is None or not facts or not set(PLACEHOLDER.findall(form)) <= set(facts):
            texts[name] = [words]
        else:
            pieces = PLACEHOLDER.split(form)  # words, name, words, name, ..., words
            texts[name] = [facts[piece] if i % 2 else piece for i, piece in enumerate(pieces)]
    return texts


def _bars(differences: pd.DataFrame) -> list[dict[str, Any]]:
    """The strongest differences as diverging bars: right of the middle means more than everyone else."""
    most = float(differences["effect"].abs().max()) or 1.0
    rows = []
    for row in differences.to_dict("records"):
        width = 50 * abs(row["effect"]) / most
        more = row["effect"] >= 0
        rows.append({"part": f"bar_{row['bar']}", "more": more, "left": 50.0 if more else 50 - width, "width": width})
    return rows
