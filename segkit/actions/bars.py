"""Bars: the few differences from everyone else that a card draws, the largest first, no two of one kind."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from segkit.actions.labels import label
from segkit.actions.rules import WORDS
from segkit.numbers import share
from segkit.vocabulary import block_of

BARS = 5  # on a card
OF_NEEDS = 2  # of them
SAID_OTHERWISE = ("needs", "demographic", "geographic", "survey", "missing", "engagement")  # blocks told in sentences
HARD_TO_READ = (
    "items_per_line",
    "active_days",
    "overdue",
    "gap_days",
    "recency_days",
    "category_entropy",
    "gap_variation",
    "order_variation",
)  # no unit one could picture, or said by another
ALIKE = {"rfm": "how much", "lifecycle": "how much"}  # blocks that say much the same
TINY = 0.001  # a share that a whole percentage would show as nothing
COLUMNS = ["segment", "bar", "words", "unit", "value", "others", "effect", "effect_low", "effect_high"]


def strongest(
    signals: pd.DataFrame, needs: pd.DataFrame, *, labels: Mapping[str, str] | None = None, most: int = BARS
) -> pd.DataFrame:
    """The bars of each segment.

    Takes  signals of `signals.segment_signals`, needs of `signals.segment_needs`
    Gives  segment, bar (1, 2, ...), words, unit, value, others, effect with its 95 % interval: up to two needs, and the
           habits that are surely above or below everyone else, one of each block; strongest first

    Parameters
    ----------
    labels : categories in plain words
    most : bars of a segment
    """
    tables = []
    for segment in sorted(set(signals["segment"])):
        own = needs[needs["segment"] == segment]
        words = [f"share of {label(t, labels=labels)}" for t in own["term"]]
        unit = fine_share(own["share"], own["others"])
        bought = own.assign(words=words, unit=unit, value=own["share"]).drop_duplicates("words").head(OF_NEEDS)
        habits = _habits(signals[signals["segment"] == segment]).head(most - len(bought))
        table = pd.concat([t for t in (bought.reindex(columns=COLUMNS), habits) if len(t)] or [habits])
        table = table.sort_values("effect", key=np.abs, ascending=False, kind="stable")
        tables.append(table.assign(segment=segment, bar=range(1, len(table) + 1))[COLUMNS])
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)


def fine_share(here: Iterable[float], there: Iterable[float]) -> list[str]:
    """The unit of shares held against each other: a finer one where either is tiny or both would look alike."""
    pairs = zip(here, there, strict=True)
    return ["fine share" if min(a, b) < TINY or share(a) == share(b) else "share" for a, b in pairs]


def _habits(own: pd.DataFrame) -> pd.DataFrame:
    """The surest habit of each block that no sentence tells, the strongest first."""
    clear = own[(own["effect_low"] > 0) | (own["effect_high"] < 0)]
    clear = clear.assign(block=clear["feature"].map(block_of))
    clear = clear.assign(family=clear["block"].map(ALIKE).fillna(clear["block"]))
    readable = clear[~clear["block"].isin(SAID_OTHERWISE) & ~clear["feature"].str.startswith("stage_")]
    readable = readable[~readable["feature"].isin(HARD_TO_READ)]
    order = readable.sort_values("effect", key=np.abs, ascending=False, kind="stable")
    strongest = order.drop_duplicates("family")
    words = strongest["feature"].map(WORDS).fillna(strongest["words"].str.removeprefix("number of: "))
    return strongest.assign(words=words).reindex(columns=COLUMNS)
