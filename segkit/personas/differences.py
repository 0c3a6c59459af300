"""Describe segments by the columns of a table of customers: what sets each apart, how far, and what it is called."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from scipy.special import ndtr

from segkit import templates
from segkit.data.attributes import (
    CATEGORY,
    COUNT,
    DAYS,
    FLAG,
    MONEY,
    NUMBER,
    OTHER,
    SCORE,
    SINCE,
    YEARS,
    YES,
    Attributes,
)
from segkit.format import FLOOR, capitalized, count, money, number, share_of
from segkit.segments.columns import encode_columns
from segkit.stats import discoveries

MIN_EFFECT = 0.35  # standard deviations; smaller differences are on no card
MOST_DIFFERENCES = 5  # on a card
MIN_NAMED_SHARE = 0.5  # of members with the value that a segment is called by
FALSE_SHARE = 0.05  # of the differences that are shown, at most so many by chance
DRAWS = 200  # resamplings of a median
NORMAL_95 = 1.96  # standard errors on each side of a 95 % interval
LONGEST_VALUE, SHORTEST_VALUE = 24, 3  # characters of a value in a name; shorter ones stand behind their column
COLUMNS = [
    *("segment", "column", "label", "kind", "level", "known", "value", "value_from", "value_to", "others"),
    *("difference", "difference_low", "difference_high", "effect", "clear"),
]


def column_differences(attributes: Attributes, segment: pd.Series, *, ids: list[str], seed: int = 7) -> pd.DataFrame:
    """Compare the members of each segment with all other customers, in every column.

    Parameters
    ----------
    segment
        Id of the segment of each customer, in the order of the attributes.
    ids
        Segments to compare.

    Returns
    -------
    pandas.DataFrame
        One row per segment and number, or value of a category: known (members whose value is known); value and
        others (medians, shares, or means of counts and scores), value_from and value_to (the middle half of members),
        difference with its 95 % interval, effect (standard deviations), clear (whether it counts: large enough, and
        not by chance).
    """
    encoded, blocks = encode_columns(attributes)
    own = segment.to_numpy()
    rng, rows = np.random.default_rng([seed, 4]), []
    for one, block in zip(attributes.used, blocks, strict=True):
        column = attributes.table[one.name]
        known = column.notna().to_numpy()
        for name in ids:
            inside = own == name
            if min((inside & known).sum(), (~inside & known).sum()) < FLOOR:
                continue
            head = {"segment": name, "column": one.name, "label": one.label, "kind": one.kind}
            head["known"] = int((inside & known).sum())
            if one.is_number:
                parts = (column.to_numpy(dtype=float), encoded[:, block.start])
                compare = _mean_difference if one.kind in (COUNT, SCORE) else _median_difference
                rows.append(head | compare(*parts, inside=inside & known, others=~inside & known, rng=rng))
            else:
                rows += [
                    head
                    | {"level": level}
                    | _share_difference((column == level).to_numpy(), inside & known, ~inside & known)
                    for level in ([YES] if one.kind == FLAG else sorted(column.dropna().unique()))
                ]
    table = pd.DataFrame(rows, columns=[*COLUMNS[:-1], "p"])
    table["clear"] = (table["effect"].abs() >= MIN_EFFECT) & discoveries(table.pop("p").to_numpy(), share=FALSE_SHARE)
    table["clear"] &= np.sign(table["difference_low"]) * np.sign(table["difference_high"]) > 0
    table["level"] = table["level"].fillna("")
    return table.sort_values(["segment", "effect"], key=_by_size, kind="stable", ignore_index=True)[COLUMNS]


def _by_size(column: pd.Series) -> pd.Series:
    return -column.abs() if column.name == "effect" else column


def _median_difference(
    values: np.ndarray, scaled: np.ndarray, *, inside: np.ndarray, others: np.ndarray, rng: np.random.Generator
) -> dict[str, float]:
    """Compare the medians; the effect is the difference of means on the scale on which segments were found."""
    mine, rest = values[inside], values[others]
    quarter, middle, three = np.quantile(mine, [0.25, 0.5, 0.75])
    low, high = np.percentile(_medians(mine, rng=rng) - _medians(rest, rng=rng), [2.5, 97.5])
    ends = {"value": middle, "value_from": quarter, "value_to": three, "others": float(np.median(rest))}
    difference = middle - ends["others"]
    ends |= {"difference": difference, "difference_low": min(low, difference), "difference_high": max(high, difference)}
    return ends | _effect(scaled[inside], scaled[others], differs=difference != 0)


def _mean_difference(
    values: np.ndarray, scaled: np.ndarray, *, inside: np.ndarray, others: np.ndarray, rng: np.random.Generator
) -> dict[str, float]:
    """Compare the means of counts and scores, which have few different values."""
    mine, rest = values[inside], values[others]
    difference = mine.mean() - rest.mean()
    error = NORMAL_95 * np.sqrt(mine.var() / len(mine) + rest.var() / len(rest))
    ends = {"value": mine.mean(), "others": rest.mean(), "difference": difference}
    ends |= {"difference_low": difference - error, "difference_high": difference + error}
    return ends | _effect(scaled[inside], scaled[others], differs=True)


def _effect(mine: np.ndarray, rest: np.ndarray, *, differs: bool) -> dict[str, float]:
    """Return the difference of means in standard deviations, and the chance of it where there is none."""
    effect, error = mine.mean() - rest.mean(), np.sqrt(mine.var() / len(mine) + rest.var() / len(rest))
    return {"effect": effect, "p": float(2 * ndtr(-abs(effect) / error)) if error > 0 and differs else 1.0}


def _medians(values: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """Return the medians of resamplings, by the binomial place of a median in the sorted values."""
    places = np.clip(rng.normal(len(values) / 2, np.sqrt(len(values)) / 2, DRAWS), 0, len(values) - 1)
    return np.sort(values)[places.astype(int)]


def _share_difference(is_level: np.ndarray, inside: np.ndarray, others: np.ndarray) -> dict[str, float]:
    """Compare the shares with a value (Newcombe's interval is close to this one for twenty or more customers)."""
    mine, rest, count = is_level[inside].mean(), is_level[others].mean(), inside.sum()
    everyone = is_level[inside | others].mean()
    spread = np.sqrt(max(everyone * (1 - everyone), 1e-9))
    error = np.sqrt(mine * (1 - mine) / count + rest * (1 - rest) / others.sum())
    pooled = spread * np.sqrt(1 / count + 1 / others.sum())
    difference = mine - rest
    return {
        "value": mine,
        "others": rest,
        "difference": difference,
        "difference_low": max(difference - NORMAL_95 * error, -1.0),
        "difference_high": min(difference + NORMAL_95 * error, 1.0),
        "effect": difference / spread,
        "p": float(2 * ndtr(-abs(difference) / pooled)),
    }


def card_differences(differences: pd.DataFrame, *, segment: str) -> pd.DataFrame:
    """Return what sets a segment apart, the largest difference first, and one line for each column.

    Of a category a value that is more frequent stands before one that is rarer; the rest of rare values stands nowhere.
    """
    own = differences[(differences["segment"] == segment) & differences["clear"] & (differences["level"] != OTHER)]
    is_rarer = ((own["kind"] == CATEGORY) & (own["difference"] < 0)).astype(int)
    first = own.assign(rarer=is_rarer).sort_values("rarer", kind="stable").drop_duplicates("column")
    return first.sort_values("effect", key=_by_size, kind="stable").head(MOST_DIFFERENCES).drop(columns="rarer")


def name_column_segments(differences: pd.DataFrame, *, ids: list[str]) -> dict[str, str]:
    """Name each segment by the two differences that set it apart most, or by more where two would share a name.

    Returns
    -------
    dict
        Segment -> name; each name once.
    """
    parts = {own: [part for part in map(_part, _rows(differences, own)) if part] for own in ids}
    names: dict[str, str] = {}
    for own in ids:
        choices = [", ".join(parts[own][:count]) for count in range(2, len(parts[own]) + 1)] or parts[own][:1]
        free = [name for name in choices if name and capitalized(name) not in names.values()]
        plain = choices[-1] if choices else templates.text("columns", "like_the_rest")
        name = capitalized(free[0] if free else plain)
        names[own] = name if name not in names.values() else f"{name} ({own})"
    return names


def _rows(differences: pd.DataFrame, segment: str) -> list[dict]:
    return card_differences(differences, segment=segment).to_dict("records")


def _part(row: dict) -> str:
    """Return what a difference adds to a name; nothing for a value that only few members have."""
    more = row["difference"] > 0
    if row["kind"] == CATEGORY:
        if row["value"] < MIN_NAMED_SHARE:
            return ""
        value = row["level"][:LONGEST_VALUE]
        return value if sum(map(str.isalpha, value)) >= SHORTEST_VALUE else f"{row['label']} {value}"
    if row["kind"] == FLAG and (row["value"] if more else 1 - row["value"]) < MIN_NAMED_SHARE:
        return ""
    label, kind = row["label"].removeprefix(SINCE), row["kind"]
    since = kind == DAYS and row["label"].startswith(SINCE)
    return templates.text(
        "columns", "name_part", kind=kind if kind != DAYS or since else NUMBER, label=label, more=more
    )


def describe_difference(row: dict, *, currency: str = "") -> str:
    """Describe a difference in a sentence: members, the middle half of them, other customers, and the range."""
    form = form_of(row, currency=currency)
    shown: dict[str, str] = {name: form(row[name]) for name in ("value", "value_from", "value_to", "others")}
    ends = sorted(abs(row[f"difference_{end}"]) for end in ("low", "high"))
    if row["difference_low"] * row["difference_high"] < 0:
        ends[0] = 0.0
    gap = {"gap": form(abs(row["difference"])), "low": form(ends[0]), "high": form(ends[1])}
    return templates.text("columns", "difference", row=row, more=row["difference"] > 0, **shown, **gap)


def form_of(row: dict, *, currency: str) -> Callable[[float], str]:
    """Return how the figures of a difference are written."""
    if row["kind"] in (FLAG, CATEGORY):
        return partial(share_of, customers=row["known"])
    if row["kind"] == MONEY:
        return partial(money, currency=currency)
    return count if row["kind"] in (YEARS, DAYS) else number


def describe_shortly(row: dict, *, currency: str = "") -> str:
    """Describe a difference by members and other customers alone."""
    form = form_of(row, currency=currency)
    return templates.text("columns", "short", row=row, value=form(row["value"]), others=form(row["others"]))


def persona_table(differences: pd.DataFrame, segments: pd.DataFrame, *, currency: str = "") -> pd.DataFrame:
    """Return a card a segment: name, size, and what sets it apart, one sentence a difference."""
    rows = []
    for row in segments.to_dict("records"):
        lines = [describe_difference(one, currency=currency) for one in _rows(differences, row["segment"])]
        card = {"segment": row["segment"], "name": row["name"]}
        card["size"] = templates.text("columns", "size", customers=row["customers"], part=row["customer_share"])
        short = [describe_shortly(one, currency=currency) for one in _rows(differences, row["segment"])[:1]]
        card["largest_difference"] = short[0] if short else ""
        card |= {f"difference_{n + 1}": lines[n] if n < len(lines) else "" for n in range(MOST_DIFFERENCES)}
        card["caution"] = templates.text("columns", "caution", verdict=row["verdict"], lines=len(lines))
        rows.append(card)
    return pd.DataFrame(rows)


def compare_with_current(current: pd.Series, segment: pd.Series) -> pd.DataFrame:
    """Compare the segments that customers are in already with the new ones.

    Returns
    -------
    pandas.DataFrame
        current, customers, segment (the new one that most of them are in), share (of them): one row a current segment
        of twenty customers or more, the largest first.
    """
    counts = pd.crosstab(current.fillna("not known"), segment.to_numpy())
    counts = counts[counts.sum(axis=1) >= FLOOR]
    table = pd.DataFrame(
        {
            "current": counts.index.astype(str),
            "customers": counts.sum(axis=1).to_numpy(),
            "segment": counts.idxmax(axis=1).to_numpy(),
            "share": (counts.max(axis=1) / counts.sum(axis=1)).to_numpy(),
        }
    )
    return table.sort_values(["customers", "current"], ascending=[False, True], ignore_index=True)
