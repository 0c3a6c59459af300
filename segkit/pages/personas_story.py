"""What the personas page says of its run: sentences and tables, computed so that next week's run does not make them
false.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from segkit.actions.labels import label
from segkit.actions.personas import is_told
from segkit.actions.points import SHARE_OF, Score, is_share
from segkit.numbers import interval, number, share
from segkit.small_groups import FLOOR
from segkit.templates import text


def answer(personas: pd.DataFrame, segments: pd.DataFrame, *, facts: pd.DataFrame) -> str:
    """How many segments have a story, and why the others have none."""
    stories = is_told(segments)
    small = int((segments["customers"] < FLOOR).sum())
    return text(
        "personas",
        "answer",
        stories=stories.sum(),
        personas=len(personas),
        small=small,
        unstable=int((~stories).sum()) - small,
        facts=len(facts),
    )


def how_firm(segments: pd.DataFrame, *, rules: pd.DataFrame) -> list[str]:
    """One sentence on stories, one on rules."""
    with_stories = segments[is_told(segments)]
    part = with_stories["customers"].sum() / max(segments["customers"].sum(), 1)
    sentences = [text("personas", "stories", part=part)]
    if len(rules):
        good = rules.drop_duplicates("segment").query("good")
        rates = {rate: good[rate].median() for rate in ("precision", "recall")}
        sentences.append(text("personas", "rules", good=len(good), segments=len(segments), **rates))
    return sentences


def read_wrong(predictors: pd.DataFrame) -> list[str]:
    """How often people are read wrong by who they are, and by their segment."""
    if predictors.empty:
        return [text("personas", "too_little_known")]
    sentences = []
    for words, rows in predictors.groupby("words", sort=False):
        ours, theirs = (rows[rows["grouping"] == g].iloc[0].to_dict() for g in ("ours", "demographic"))
        better = theirs["wrong"] < theirs["chance"] - 0.005
        sentences.append(text("personas", "read_wrong", words=words, ours=ours, theirs=theirs, better=better))
    return sentences


def sides_shown(predictors: pd.DataFrame) -> pd.DataFrame:
    """The table of readings with figures as text."""
    wrong = [interval(r.wrong, r.wrong_low, r.wrong_high, form=share) for r in predictors.itertuples()]
    return predictors.assign(wrong=wrong, chance=predictors["chance"].map(share))


def rules_shown(personas: pd.DataFrame, rules: pd.DataFrame) -> pd.DataFrame:
    """A line for each segment with a story: its rule in words, and how it did."""
    first = rules.drop_duplicates("segment").set_index("segment")
    with_rules = personas[personas["segment"].isin(first.index) & (personas["rule"] != "")]
    rows = [first.loc[s] for s in with_rules["segment"]]
    rule_texts = [
        text.split(". ")[0] if row["good"] else "none" for text, row in zip(with_rules["rule"], rows, strict=True)
    ]
    rates = {
        rate: [interval(r[rate], r[f"{rate}_low"], r[f"{rate}_high"], form=share) for r in rows]
        for rate in ("precision", "recall")
    }
    return pd.DataFrame({"name": with_rules["name"].to_numpy(), "rule": rule_texts, **rates})


def points_shown(scores: Sequence[Score], *, labels: Mapping[str, str] | None = None) -> pd.DataFrame:
    """The points cards: for each score and item its marks and points."""
    rows = []
    for score in scores:
        for item, cutoffs, points in score.items:
            cutoff_texts = [share(m) if is_share(item) else number(m) for m in cutoffs]
            what = label(item.removeprefix(SHARE_OF), labels=labels) if item.startswith(SHARE_OF) else _plain(item)
            rows.append((score.words, what, ", ".join(cutoff_texts), f"{points:+d}".replace("-", "\u2212")))
    return pd.DataFrame(rows, columns=["Score", "Figure", "Marks (at least)", "Points each"])


def needs_shown(
    needs: pd.DataFrame, segments: pd.DataFrame, *, labels: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """The needs with names in plain words and figures as text."""
    rows = needs.merge(segments[["segment", "name"]], on="segment")
    shown = {name: rows[name].map(share) for name in ("share", "others", "buyers")}
    effect = [interval(r.effect, r.effect_low, r.effect_high) for r in rows.itertuples()]
    return rows.assign(said=[label(t, labels=labels) for t in rows["term"]], effect=effect, **shown)


def figures_of(rules: pd.DataFrame, segments: pd.DataFrame, *, predictors: pd.DataFrame) -> dict[str, object]:
    """The headline numbers of the page, flat."""
    has_stories = is_told(segments)
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


def _plain(item: str) -> str:
    return item.replace("_", " ")
