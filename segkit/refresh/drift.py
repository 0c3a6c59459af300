"""Drift: how far customers of today differ from those of the last run, beside what chance alone would give.

Most customers are in both runs, so that chance is no redraw of strangers. Under it a customer is as likely to have gone
from then to now as from now to then: their two states are swapped by lot, many times (a paired permutation test; who is
in one run only changes sides alone). Beyond chance is what lies above 95 of 100 such lots, for all rows of a kind
together (Westfall & Young 1993), so that among sixty features none is found by looking at sixty.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from segkit.stats import Z95, hash_sample, quantile_edges
from segkit.vocabulary import EVERYONE, describe

PERMUTATIONS = 400  # swaps by lot
LEVEL = 0.95
BINS = 10
SMALL_INDEX, LARGE_INDEX = 0.1, 0.25  # of the stability index, as is usual (Siddiqi 2006, "Credit risk scorecards")
LARGE_SHARE_CHANGE = 0.25  # of a segment's size
LARGE_CONFIDENCE_CHANGE = 0.05  # in points of the share of bags that agree
DRIFT = [
    "what",
    "item",
    "words",
    "unit",
    "before",
    "after",
    "difference",
    "difference_low",
    "difference_high",
    "size",
    "chance",
    "beyond",
    "verdict",
]


@dataclass(frozen=True)
class RatioParts:
    """Figures as sums over sums, a row a customer and a column a figure: numerators and denominators, then and now."""

    before: np.ndarray
    before_of: np.ndarray
    after: np.ndarray
    after_of: np.ndarray


def feature_drift(before: pd.DataFrame, after: pd.DataFrame, *, seed: int = 7) -> pd.DataFrame:
    """Each feature's distribution against the last run's.

    Takes  before, after: features indexed by customer_id; columns of both that hold numbers are compared
    Gives  rows of the table drift: means, their difference with its 95 % interval, size (population stability index
           over tenths of both together; unknown is a group of its own), what chance gives of it, and a verdict; the
           largest first

    Parameters
    ----------
    seed : of the lots
    """
    names = [n for n in before.columns if n in after.columns and _is_numeric(before[n]) and _is_numeric(after[n])]
    then, now = _align_runs(before[names], after[names])
    there = [frame.index.isin(side.index) for frame, side in ((then, before), (now, after))]
    swaps = _permutation_signs(len(then), seed=seed)
    found, chance = np.zeros(len(names)), np.zeros((PERMUTATIONS, len(names)))
    for column, name in enumerate(names):
        moved, total = _bin_changes(then[name].to_numpy(float), now[name].to_numpy(float), there=there)
        sizes = _stability_index(total, swaps @ moved)
        found[column], chance[:, column] = sizes[0], sizes[1:]
    table = _mean_parts(then.fillna(0.0), now.fillna(0.0), there=there, names=names)
    descriptions = [describe(name) for name in names]
    table = table.assign(
        what="feature", words=[one.label for one in descriptions], unit=[one.unit for one in descriptions]
    )
    table = _compare_with_chance(table, found, chance)
    steps = [("large", table["size"] >= LARGE_INDEX), ("moderate", table["size"] >= SMALL_INDEX)]
    table["verdict"] = _size_verdicts(table, steps)
    return table.sort_values(["size", "item"], ascending=[False, True], ignore_index=True)[DRIFT]


def share_drift(before: pd.Series, after: pd.Series, *, seed: int = 7) -> pd.DataFrame:
    """The share of customers in each segment, then and now under the same definition.

    Takes  before, after: segment by customer_id, of one model
    Gives  rows of the table drift, a segment each; size is the difference without its sign; large from a quarter of
           what the segment was
    """
    segments = sorted(set(before) | set(after))
    then, now = _align_runs(before, after)
    of = [side.notna().to_numpy(float)[:, None].repeat(len(segments), axis=1) for side in (then, now)]
    memberships = [
        (side.to_numpy(object)[:, None] == np.array(segments, dtype=object)).astype(float) for side in (then, now)
    ]
    table, lots = _permuted_differences(
        RatioParts(memberships[0], of[0], memberships[1], of[1]), items=segments, seed=seed
    )
    table = _compare_with_chance(table.assign(what="share", words="share of customers", unit="share"), *lots)
    large = table["size"] >= LARGE_SHARE_CHANGE * table["before"].where(table["before"] > 0, np.inf)
    table["verdict"] = _size_verdicts(table, [("large", large)])
    return table[DRIFT]


def confidence_drift(before: pd.DataFrame, after: pd.DataFrame, *, seed: int = 7) -> pd.DataFrame:
    """How surely customers are placed, then and now: of everyone, and in each segment.

    Takes  before, after: segment and confidence by customer_id, of one model
    Gives  rows of the table drift, "all" first; large from five points
    """
    segments = [EVERYONE, *sorted(set(before["segment"]) & set(after["segment"]))]
    parts = []
    for side in _align_runs(before, after):
        inside = side["segment"].to_numpy(object)[:, None] == np.array(segments, dtype=object)
        inside[:, 0] = side["segment"].notna()
        parts += [inside * side["confidence"].fillna(0.0).to_numpy()[:, None], inside.astype(float)]
    table, lots = _permuted_differences(RatioParts(*parts), items=segments, seed=seed)
    table = _compare_with_chance(table.assign(what="confidence", words="confidence of placing", unit="share"), *lots)
    table["verdict"] = _size_verdicts(table, [("large", table["size"] >= LARGE_CONFIDENCE_CHANGE)])
    return table[DRIFT]


def _is_numeric(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column)


def _align_runs(before: pd.DataFrame | pd.Series, after: pd.DataFrame | pd.Series) -> tuple:
    """Both by customer, in one order, missing where a customer was not; of very many a sample by a hash of the ids."""
    index = before.index.union(after.index).sort_values()
    index = index[hash_sample(index)]
    return before.reindex(index), after.reindex(index)


def _permutation_signs(customers: int, *, seed: int) -> np.ndarray:
    """Signs, a row a lot: the first leaves everyone as they are."""
    signs = np.random.default_rng(seed).integers(0, 2, (PERMUTATIONS + 1, customers), dtype=np.int8) * 2 - 1
    signs[0] = 1
    return signs.astype(np.float32)


def _bin_changes(before: np.ndarray, after: np.ndarray, *, there: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """By customer and bin, what they add now less what they did then; and what all add in both."""
    finite_values = np.concatenate([side[np.isfinite(side)] for side in (before, after)])
    edges = np.unique(quantile_edges(finite_values, parts=BINS)) if len(finite_values) else np.empty(0)
    bin_members = []
    for side, present in zip((before, after), there, strict=True):
        code = np.where(np.isfinite(side), np.searchsorted(edges, np.nan_to_num(side), side="left"), len(edges) + 1)
        bin_members.append((code[:, None] == np.arange(len(edges) + 2)) & present[:, None])
    return (bin_members[1].astype(np.float32) - bin_members[0]), (
        bin_members[0].sum(axis=0) + bin_members[1].sum(axis=0)
    ).astype(float)


def _stability_index(total: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Population stability index of each lot; half a customer in every bin keeps it finite."""
    after, before = ((total + sign * moved) / 2 + 0.5 for sign in (1, -1))
    p, q = (side / side.sum(axis=1, keepdims=True) for side in (after, before))
    return ((p - q) * np.log(p / q)).sum(axis=1)


def _mean_parts(then: pd.DataFrame, now: pd.DataFrame, *, there: list[np.ndarray], names: list[str]) -> pd.DataFrame:
    of = [np.repeat(side.astype(float)[:, None], len(names), axis=1) for side in there]
    parts = RatioParts(then.to_numpy(float) * of[0], of[0], now.to_numpy(float) * of[1], of[1])
    return _difference_table(parts, items=names)


def _permuted_differences(
    parts: RatioParts, *, items: list[str], seed: int
) -> tuple[pd.DataFrame, tuple[np.ndarray, np.ndarray]]:
    """Rows of drift, with the differences found and those of the lots."""
    swaps = _permutation_signs(len(parts.before), seed=seed)
    ratios = []
    for sign in (1, -1):
        above, below = (
            (then + now).sum(axis=0) / 2 + sign * (swaps @ (now - then).astype(np.float32)) / 2
            for then, now in ((parts.before, parts.after), (parts.before_of, parts.after_of))
        )
        ratios.append(above / np.maximum(below, 1.0))
    sizes = np.abs(ratios[0] - ratios[1])
    return _difference_table(parts, items=items), (sizes[0], sizes[1:])


def _difference_table(parts: RatioParts, *, items: list[str]) -> pd.DataFrame:
    """Figures then and now, and their difference with a 95 % interval by the delta method; customers are the units."""
    totals = [side.sum(axis=0) for side in (parts.before, parts.before_of, parts.after, parts.after_of)]
    before, after = totals[0] / np.maximum(totals[1], 1.0), totals[2] / np.maximum(totals[3], 1.0)
    pull = (parts.after - after * parts.after_of) / np.maximum(totals[3], 1.0)
    pull -= (parts.before - before * parts.before_of) / np.maximum(totals[1], 1.0)
    half = Z95 * np.sqrt(np.square(pull).sum(axis=0))
    at = after - before
    columns = {"before": before, "after": after, "difference": at}
    columns |= {"difference_low": at - half, "difference_high": at + half}
    return pd.DataFrame({"item": items, **columns}).round(9)


def _compare_with_chance(table: pd.DataFrame, found: np.ndarray, chance: np.ndarray) -> pd.DataFrame:
    """Size, what chance gives of it, and whether the size is beyond chance among all rows together."""
    if not len(table):
        return table.assign(size=[], chance=[], beyond=np.empty(0, dtype=bool))
    usual = np.quantile(chance, LEVEL, axis=0)
    scale = np.where(usual > 0, usual, 1.0)
    most = np.quantile((chance / scale).max(axis=1), LEVEL)
    beyond = (found / scale > most) & (found > 1e-6)
    return table.assign(size=found.round(6), chance=(most * usual).round(6), beyond=beyond)


def _size_verdicts(table: pd.DataFrame, steps: list[tuple[str, pd.Series]]) -> list[str]:
    words = np.select([test.to_numpy() for _, test in steps], [word for word, _ in steps], default="small")
    return np.where(table["beyond"], words, "as chance").tolist()
