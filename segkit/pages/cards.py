"""Personas as HTML: a card for each, in which every figure says how it was made; and the texts of cards read back."""

import json
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any

import pandas as pd
from markupsafe import Markup, escape

from segkit.actions.copy_check import LABELS
from segkit.actions.facts import FORMS_COLUMN, PLACEHOLDER, Fact, facts_from
from segkit.pages.html import chip

CARD_LINES = {  # column of personas -> what stands before it
    "behind": "The need behind it",
    "how_they_buy": "How they buy",
    "stage": "Where they stand",
    "next": "What they will do next",
    "who": "Who they are",
    "value": "What they are worth",
    "unmet": "What they lack",
    "own_words": "In their own words",
    "proposition": "Value proposition (a draft)",
    "offer": "Next best action",
    "kpi": "What to watch",
    "rule": "Rule card: how to find them without the model",
    "caution": "Careful",
}
COPY_AFTER = "offer"  # the line that the copy follows


def persona_cards_html(
    personas: pd.DataFrame,
    *,
    bars: pd.DataFrame | None = None,
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
    drawn = dict(list(bars.groupby("segment"))) if bars is not None else {}
    said = dict(list(copy.groupby("segment"))) if copy is not None and len(copy) else {}
    known: dict[str, dict[str, Fact]] = {}
    for fact in facts_from(facts) if facts is not None else []:
        known.setdefault(fact.segment, {})[fact.name] = fact
    cards = []
    for row in personas.to_dict("records"):
        own = row["segment"]
        cards.append(_card(row, facts=known.get(own, {}), bars=drawn.get(own), copy=said.get(own)))
    return Markup('<div class="sk-cards">\n{}\n</div>').format(Markup("\n").join(cards))


def card_texts(html: str) -> pd.DataFrame:
    """What the cards on a page say: segment, and the text of each part, as a reader sees it."""
    reader = _Reader()
    reader.feed(html)
    rows = [{"segment": segment, **parts} for segment, parts in reader.found.items()]
    return pd.DataFrame(rows).fillna("") if rows else pd.DataFrame(columns=["segment"])


def _card(
    row: Mapping[str, Any], *, facts: Mapping[str, Fact], bars: pd.DataFrame | None, copy: pd.DataFrame | None
) -> Markup:
    forms = json.loads(row[FORMS_COLUMN]) if FORMS_COLUMN in row else {}
    texts = {name: _traced(text, forms.get(name), facts) for name, text in row.items() if _is_text(text)}
    lines = []
    for name, heading in CARD_LINES.items():
        if name in texts:
            lines.append(Markup('<div><dt>{}</dt><dd data-part="{}">{}</dd></div>').format(heading, name, texts[name]))
        if name == COPY_AFTER and copy is not None:
            lines.append(_copy(copy))
    segment = row["segment"]
    story = Markup('<p data-part="story">{}</p>').format(texts["story"]) if "story" in texts else ""
    need = Markup('<p class="sk-need" data-part="need">{}</p>').format(texts["need"]) if "need" in texts else ""
    form = (
        '<article class="sk-card" id="{}"><header><h3>{} <span data-part="name">{}</span></h3><p class="sk-id">{}</p>'
        "</header>{}{}{}<dl>{}</dl></article>"
    )
    drawn = _bars(bars, texts) if bars is not None and "bar_1" in texts else ""
    return Markup(form).format(segment, chip(segment), row["name"], segment, need, story, drawn, Markup("").join(lines))


def _traced(text: str, form: str | None, facts: Mapping[str, Fact]) -> Markup:
    """A text in which each figure carries how it was computed, where the facts are there; the words are the same."""
    if form is None or not facts or not set(PLACEHOLDER.findall(form)) <= set(facts):
        return escape(text)
    made = PLACEHOLDER.split(form)  # words, name, words, name, ..., words
    parts = [escape(piece) if i % 2 == 0 else _figure(facts[piece]) for i, piece in enumerate(made)]
    return Markup("").join(parts)


def _figure(fact: Fact) -> Markup:
    if fact.text is not None:
        return escape(fact.text)
    return Markup('<span class="sk-fact" title="{}: {}">{}</span>').format(fact.name, fact.how, fact.shown())


def _bars(bars: pd.DataFrame, texts: Mapping[str, Markup]) -> Markup:
    """The strongest differences as diverging bars: right of the middle means more than everyone else."""
    most = float(bars["effect"].abs().max()) or 1.0
    rows = []
    for row in bars.to_dict("records"):
        width = 50 * abs(row["effect"]) / most
        left = 50.0 if row["effect"] >= 0 else 50 - width
        side, name = "more" if row["effect"] >= 0 else "less", f"bar_{row['bar']}"
        form = (
            '<li><span data-part="{}">{}</span>'
            '<span class="sk-diverge"><i class="sk-{}" style="left:{}%;width:{}%"></i></span></li>'
        )
        rows.append(Markup(form).format(name, texts.get(name, ""), side, f"{left:.1f}", f"{width:.1f}"))
    return Markup('<ul class="sk-signals" aria-label="Against all others">{}</ul>').format(Markup("").join(rows))


def _copy(copy: pd.DataFrame) -> Markup:
    """What to say, by slot; where a model was asked and the template stands, why."""
    rows = []
    for row in copy.to_dict("records"):
        why = Markup(" <small>(template: {})</small>").format(row["why"]) if row["why"] else ""
        form = '<li><small>{}</small> <q data-part="copy_{}">{}</q>{}</li>'
        rows.append(Markup(form).format(LABELS.get(row["slot"], row["slot"]), row["slot"], row["text"], why))
    return Markup('<div><dt>What to say</dt><dd><ul class="sk-copy">{}</ul></dd></div>').format(Markup("").join(rows))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


class _Reader(HTMLParser):
    """Collects the text of every element that names its part, by card."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: dict[str, dict[str, str]] = {}
        self.card, self.open = "", []  # the card we are in; the elements that are open, each with its part

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag == "article" and "sk-card" in (named.get("class") or ""):
            self.card = named.get("id") or ""
            self.found[self.card] = {}
        if tag not in ("br", "img", "i", "hr", "path", "circle", "rect"):
            self.open.append((tag, named.get("data-part")))

    def handle_endtag(self, tag: str) -> None:
        while self.open and tag not in ("br", "img", "i", "hr", "path", "circle", "rect"):
            if self.open.pop()[0] == tag:
                break

    def handle_data(self, data: str) -> None:
        part = next((part for _tag, part in reversed(self.open) if part), None)
        if part and self.card:
            self.found[self.card][part] = self.found[self.card].get(part, "") + data
