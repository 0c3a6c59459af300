"""Cards and text of the personas chapter."""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
from markupsafe import Markup

from segkit import templates
from segkit.format import hidden_segments, interval, share
from segkit.personas.cards import NAMES, has_story
from segkit.personas.copy import SLOT_LABELS
from segkit.personas.facts import FORMS_COLUMN, PLACEHOLDER, Fact, facts_from_table, pieces
from segkit.personas.naming import NO_NEED, label
from segkit.reports.theme import segment_style, segment_styles
from segkit.templates import text
from segkit.texts import load_texts, name_phrase, phrase

FIRST_LINES = ("size", "come_for", "next", "do", "caution")  # of a card; on a phone the others are folded away
MORE_LINES = ("how_they_shop", "who", "in_their_words", "gap", "test", "say", "rule")


def personas_headline(personas: pd.DataFrame, segments: pd.DataFrame, *, claims: pd.DataFrame) -> str:
    """Summarise how many segments have a story, and why the others have none."""
    stories = has_story(segments)
    small = len(hidden_segments(segments))
    return text(
        "personas",
        "answer",
        stories=stories.sum(),
        personas=len(personas),
        small=small,
        unstable=int((~stories).sum()) - small,
        claims=int((~claims["part"].isin(NAMES)).sum()),
    )


def describe_reliability(segments: pd.DataFrame, *, rules: pd.DataFrame) -> list[str]:
    """Describe how reliable stories and rules are, one sentence each."""
    with_stories = segments[has_story(segments)]
    part = with_stories["customers"].sum() / max(segments["customers"].sum(), 1)
    sentences = [text("personas", "stories", part=part)]
    if len(rules):
        good = rules.drop_duplicates("segment").query("good")
        rates = {rate: good[rate].median() for rate in ("precision", "recall")}
        sentences.append(text("personas", "rules", good=len(good), segments=len(segments), **rates))
    return sentences


def describe_predictors(predictors: pd.DataFrame) -> list[str]:
    """Describe how often demographics and segments predict customers wrong."""
    if predictors.empty:
        return [text("personas", "too_little_known")]
    sentences = []
    for words, rows in predictors.groupby("words", sort=False):
        ours, theirs = (rows[rows["grouping"] == g].iloc[0].to_dict() for g in ("ours", "demographic"))
        better = theirs["wrong"] < theirs["chance"] - 0.005
        sentences.append(text("personas", "read_wrong", words=words, ours=ours, theirs=theirs, better=better))
    return sentences


def format_predictors(predictors: pd.DataFrame) -> pd.DataFrame:
    """Format the comparison of demographics and segments as predictors."""
    wrong = [interval(r.wrong, r.wrong_low, r.wrong_high, form=share) for r in predictors.itertuples()]
    words = {name: predictors[name].map(phrase) for name in ("label", "words")}
    return predictors.assign(wrong=wrong, chance=predictors["chance"].map(share), **words)


def format_rules(personas: pd.DataFrame, rules: pd.DataFrame) -> pd.DataFrame:
    """Format one row per segment with a rule that is good enough: the rule, and how it did."""
    first = rules.drop_duplicates("segment").set_index("segment")
    with_rules = personas[personas["rule"] != ""]
    rows = [first.loc[s] for s in with_rules["segment"]]
    rates = {
        rate: [interval(r[rate], r[f"{rate}_low"], r[f"{rate}_high"], form=share) for r in rows]
        for rate in ("precision", "recall")
    }
    conditions = [rule.rpartition(": ")[0] for rule in with_rules["rule"]]
    return pd.DataFrame({"name": with_rules["name"].to_numpy(), "rule": conditions, **rates})


def format_needs(
    needs: pd.DataFrame, segments: pd.DataFrame, *, labels: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Format the needs with names in plain words."""
    rows = needs.merge(segments[["segment", "name"]], on="segment")
    shown = {name: rows[name].map(share) for name in ("share", "others", "buyers")}
    effect = [interval(r.effect, r.effect_low, r.effect_high) for r in rows.itertuples()]
    return rows.assign(said=[label(t, labels=labels) for t in rows["term"]], effect=effect, **shown)


def persona_metrics(rules: pd.DataFrame, segments: pd.DataFrame, *, predictors: pd.DataFrame) -> dict[str, object]:
    """Collect the headline numbers of the chapter, flat."""
    has_stories = has_story(segments)
    figures: dict[str, object] = {
        "personas.described": int(has_stories.sum()),
        "personas.not_described": int((~has_stories).sum()),
    }
    one = rules.drop_duplicates("segment")
    good = one[one["good"]]
    figures |= {"rules.count": len(good), "rules.none": len(segments) - len(good)}
    for rate in ("precision", "recall"):
        figures[f"rules.{rate}"] = float(good[rate].median()) if len(good) else None
        figures[f"rules.{rate}.low"] = float(good[f"{rate}_low"].median()) if len(good) else None
        figures[f"rules.{rate}.high"] = float(good[f"{rate}_high"].median()) if len(good) else None
    for row in predictors.to_dict("records"):
        name = f"comparison.{row['grouping']}.{row['reading']}_wrong"
        figures |= {name: row["wrong"], f"{name}.low": row["wrong_low"], f"{name}.high": row["wrong_high"]}
    return figures


def persona_cards_html(
    personas: pd.DataFrame,
    *,
    facts: pd.DataFrame | None = None,
    copy: pd.DataFrame | None = None,
    segments: pd.DataFrame | None = None,
) -> Markup:
    """Render a card for each persona, in the order given, below a list of all; two a page when printed.

    Parameters
    ----------
    personas
        Text columns, already rendered, and their forms where a run has them.
    facts
        The table ``facts``: how each figure was computed.
    copy
        Texts that may be sent.
    segments
        The table ``segments``, from which colours and markers follow; None takes them from the ids.

    Returns
    -------
    Markup
        Each text carries the name of its column (data-part), each figure its fact (data-fact) and how it was computed
        (title).
    """
    copies = dict(list(copy.groupby("segment"))) if copy is not None and len(copy) else {}
    facts_by_segment: dict[str, dict[str, Fact]] = {}
    for fact in facts_from_table(facts) if facts is not None else []:
        facts_by_segment.setdefault(fact.segment, {})[fact.name] = fact
    styles, rows = {} if segments is None else segment_styles(segments), []
    names = personas.get("need_name", pd.Series(dtype=object)).dropna()
    any_need = bool((names != name_phrase(NO_NEED)).any())  # without needs, no card speaks of them
    for row in personas.to_dict("records"):
        own = row["segment"]
        rows.append(
            {
                "segment": own,
                "look": styles.get(own) or segment_style(own),
                "name": row["name"],
                "any_need": any_need,
                "has_need": bool(row.get("need_name")) and row["need_name"] != name_phrase(NO_NEED),
                "texts": _trace_figures(row, facts=facts_by_segment.get(own, {})),
                "revenue_share": facts_by_segment.get(own, {}).get("revenue_share"),
                "messages": _messages(copies[own]) if own in copies else [],
            }
        )
    texts = load_texts("cards")
    lines = {"first": FIRST_LINES, "more": MORE_LINES, "headings": texts["headings"], "words": texts["page"]}
    return templates.html("personas", "cards", rows=rows, slots=SLOT_LABELS, **lines)


def _messages(copy: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the copy of a segment by slot: the first line, and ``more`` of them in other tones."""
    slots = [rows.to_dict("records") for _, rows in copy.groupby("slot", sort=False)]
    return [{**first, "more": [one["text"] for one in others]} for first, *others in slots]


def _trace_figures(row: Mapping[str, Any], *, facts: Mapping[str, Fact]) -> dict[str, list[str | Fact]]:
    """Split the texts of a card into words and the facts they name; whole where the facts are missing."""
    forms = json.loads(row[FORMS_COLUMN]) if FORMS_COLUMN in row else {}
    texts: dict[str, list[str | Fact]] = {}
    for name, words in row.items():
        if not isinstance(words, str) or not words.strip():
            continue
        form = forms.get(name)
        known = form is not None and set(PLACEHOLDER.findall(form)) <= set(facts)
        texts[name] = pieces(form, facts, row["segment"]) if known and facts else [words]
    return texts
