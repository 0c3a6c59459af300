"""Points: a few scores that any CRM can add up, each standing for one direction in which customers differ.

A segment is a cell of the anticipation space, which a CRM does not have. Its axes are rebuilt here as points cards:
whole points for passing rounded marks on plain figures (orders, spend, the share of a category), added up. That is the
scorecard of credit and of RFM scoring; the ingredients are chosen one by one (forward stagewise, Hastie et al. 2009,
3.3.3).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from segkit.actions.labels import label
from segkit.vocabulary import block_of

INGREDIENTS = 16  # of a score; more come closer to the space and are longer to type
MOST_POINTS = 4  # for one mark
BANDS = 10  # marks of a figure lie between tenths of the customers
SHARE_MARKS = (1 / 3, 2 / 3)  # of those who buy; the first mark is buying at all
FEWEST_BUYERS = 30
LEAST_SHARE = 0.001  # of what a customer buys that counts as buying a thing at all
BETTER = 0.0005  # correlation; an ingredient that adds less is left out
SCORES = 4  # axes of the space that get a score; the later ones tell little
ACTIVITY_BLOCKS = ("rfm", "rhythm", "lifecycle", "basket", "breadth")
SHARE_OF = "share: "  # before the name of a category
COLUMNS = ["score", "words", "item", "at_least", "points"]


@dataclass(frozen=True)
class Score:
    """One points card: for each item its rounded marks, and the points for each mark that is reached."""

    name: str
    words: str
    items: tuple[tuple[str, tuple[float, ...], int], ...]

    def score(self, figures: pd.DataFrame) -> np.ndarray:
        """The points of each customer, from a table that holds the items."""
        total = np.zeros(len(figures))
        for item, cutoffs, points in self.items:
            total += points * np.searchsorted(cutoffs, figures[item].to_numpy(), side="right")
        return total


def learn_scores(
    figures: pd.DataFrame, axes: pd.DataFrame, *, train: np.ndarray, labels: Mapping[str, str] | None = None
) -> list[Score]:
    """A points card for each of the first axes of the space.

    Takes  figures: plain figures of customers, "share: <category>" among them; axes of the same customers; train: the
           customers it may be learnt on
    Gives  scores, in the order of the axes

    Parameters
    ----------
    labels : categories in plain words
    """
    seen = figures[train]
    cutoffs = {item: _marks(seen[item].to_numpy(), item=item) for item in figures}
    cutoffs = {item: at for item, at in cutoffs.items() if at}
    passed = np.column_stack([np.searchsorted(at, seen[item].to_numpy(), side="right") for item, at in cutoffs.items()])
    found: list[Score] = []
    for axis in list(axes.columns)[:SCORES]:
        weights = _stagewise(passed.astype(float), axes.loc[train, axis].to_numpy())
        order = [i for i in np.argsort(-np.abs(weights), kind="stable") if weights[i]]
        items = [(list(cutoffs)[i], tuple(cutoffs[list(cutoffs)[i]]), int(weights[i])) for i in order]
        if items:
            found.append(_named(items, others=found, labels=labels))
    return found


def points_table(scores: Sequence[Score]) -> pd.DataFrame:
    """The cards as a table: score, words, item, at_least (the mark), points (for reaching it); marks add up."""
    rows = [
        (s.name, s.words, item, mark, points) for s in scores for item, cutoffs, points in s.items for mark in cutoffs
    ]
    table = pd.DataFrame(rows, columns=COLUMNS).astype({"at_least": float, "points": "int64"})
    return table.sort_values(["score", "item", "at_least"], ignore_index=True)


def rounded(value: float, *, share: bool = False) -> float:
    """A mark that people can type, and that is shown in full: two figures that count; of a share whole hundredths,
    thousandths below one.

    >>> rounded(1234.5), rounded(12.34), rounded(0.1367, share=True), rounded(0.00367, share=True)
    (1200.0, 12.0, 0.14, 0.004)
    """
    if share:
        return round(float(value), 2 if value >= 0.0095 else 3)
    return float(f"{value:.2g}")


def is_share(item: str) -> bool:
    """Whether an item is a share of something."""
    return item.startswith(SHARE_OF) or item.endswith("_share")


def _marks(values: np.ndarray, *, item: str) -> list[float]:
    """Rounded marks of a figure: between tenths of customers; of a category, buying at all and thirds of its buyers."""
    share = is_share(item)
    if not item.startswith(SHARE_OF):
        return sorted({rounded(q, share=share) for q in np.quantile(values, np.arange(1, BANDS) / BANDS)})
    bought = values[values > 0]
    if len(bought) < FEWEST_BUYERS:
        return []
    return sorted({LEAST_SHARE, *(max(rounded(q, share=True), LEAST_SHARE) for q in np.quantile(bought, SHARE_MARKS))})


def _stagewise(passed: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Whole weights whose sum goes best with the target, one point at a time."""
    centred = passed - passed.mean(axis=0)
    y = (target - target.mean()) / max(target.std(), 1e-12)
    gram, with_y = centred.T @ centred / len(y), centred.T @ y / len(y)
    spread, weights = np.diag(gram), np.zeros(passed.shape[1])
    along, size, pull, best = 0.0, 0.0, np.zeros(len(weights)), 0.0
    while True:
        steps = []
        for sign in (1, -1):
            size_then = np.maximum(size + 2 * sign * pull + spread, 1e-12)
            full = (weights == 0) & ((weights != 0).sum() >= INGREDIENTS)
            barred = (np.abs(weights + sign) > MOST_POINTS) | full | (spread < 1e-12)
            steps.append(np.where(barred, -2.0, (along + sign * with_y) / np.sqrt(size_then)))
        side, i = np.unravel_index(int(np.argmax(np.round(steps, 9))), (2, len(weights)))
        if steps[side][i] < best + BETTER:
            return weights
        sign, best = (1, -1)[side], steps[side][i]
        size += 2 * sign * pull[i] + spread[i]
        along, pull = along + sign * with_y[i], pull + sign * gram[:, i]
        weights[i] += sign


def _named(
    items: list[tuple[str, tuple[float, ...], int]], *, others: list[Score], labels: Mapping[str, str] | None
) -> Score:
    """What a score is called: activity where figures of activity weigh most, else what it sets against what."""
    active = sum(abs(p) for item, _m, p in items if not item.startswith(SHARE_OF) and block_of(item) in ACTIVITY_BLOCKS)
    if active > sum(abs(p) for _i, _m, p in items) / 2 and not any(s.name == "activity" for s in others):
        return Score(name="activity", words="activity points", items=tuple(items))
    bought = [each for each in items if each[0].startswith(SHARE_OF)] or items
    more, less = ([_said(i, labels=labels) for i, _m, p in bought if (p > 0) is up][:2] for up in (True, False))
    words = (
        "points for " + ", ".join(more) + (" over " if more and less else "little " if less else "") + ", ".join(less)
    )
    return Score(name=f"taste_{1 + sum(s.name != 'activity' for s in others)}", words=words, items=tuple(items))


def _said(item: str, *, labels: Mapping[str, str] | None) -> str:
    if item.startswith(SHARE_OF):
        return label(item.removeprefix(SHARE_OF), labels=labels)
    return item.replace("_", " ").removesuffix(" share")
