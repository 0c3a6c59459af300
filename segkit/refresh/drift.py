"""Measure how far customers drifted since the previous run, compared with chance.

Most customers are in both runs, so chance does not mean a new random sample. Without drift, a customer is as likely to
change in one direction as in the other: their two states are swapped at random, many times (a paired permutation test;
a customer who is in one run only changes runs). A difference is beyond chance if it exceeds 95 % of these permutations
for all rows of a kind together (Westfall & Young 1993), so that testing sixty features does not produce false findings.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from segkit.stats import Z95, hash_sample, quantile_edges
from segkit.vocabulary import EVERYONE, describe

PERMUTATIONS = 400
LEVEL = 0.95
BINS = 10
SMALL_INDEX, LARGE_INDEX = 0.1, 0.25  # population stability index (Siddiqi 2006, "Credit risk scorecards")
LARGE_SHARE_CHANGE = 0.25  # of the previous size of a segment
LARGE_CONFIDENCE_CHANGE = 0.05  # five percentage points
DRIFT = [
    *("what", "item", "words", "unit", "before", "after", "difference", "difference_low", "difference_high"),
    *("size", "chance", "beyond", "verdict"),
]


@dataclass(frozen=True)
class RatioParts:
    """Numerators and denominators of ratios in both runs: one row per customer, one column per figure."""

    before: np.ndarray
    before_of: np.ndarray
    after: np.ndarray
    after_of: np.ndarray


def feature_drift(before: pd.DataFrame, after: pd.DataFrame, *, seed: int = 7) -> pd.DataFrame:
    """Compare the distribution of each feature with the previous run.

    Parameters
    ----------
    before, after
        Features by ``customer_id``; numeric columns of both are compared.

    Returns
    -------
    DataFrame
        Rows of the table drift, largest first: means, their difference with its 95 % interval, ``size`` (population
        stability index over deciles of both runs together; unknown values are a group of their own), ``chance`` (size
        that chance alone gives) and a verdict.
    """
    names = [n for n in before.columns if n in after.columns and _is_numeric(before[n]) and _is_numeric(after[n])]
    then, now = _align_runs(before[names], after[names])
    present = [aligned.index.isin(original.index) for aligned, original in ((then, before), (now, after))]
    signs = _permutation_signs(len(then), seed=seed)
    observed, chance = np.zeros(len(names)), np.zeros((PERMUTATIONS, len(names)))
    for column, name in enumerate(names):
        change, total = _bin_changes(then[name].to_numpy(float), now[name].to_numpy(float), present=present)
        sizes = _stability_index(total, signs @ change)
        observed[column], chance[:, column] = sizes[0], sizes[1:]
    counts = [np.repeat(rows.astype(float)[:, None], len(names), axis=1) for rows in present]
    values = [run.fillna(0.0).to_numpy(float) * count for run, count in zip((then, now), counts, strict=True)]
    table = _difference_table(RatioParts(values[0], counts[0], values[1], counts[1]), items=names)
    descriptions = [describe(name) for name in names]
    words, units = [each.label for each in descriptions], [each.unit for each in descriptions]
    table = _compare_with_chance(table.assign(what="feature", words=words, unit=units), observed, chance)
    levels = [("large", table["size"] >= LARGE_INDEX), ("moderate", table["size"] >= SMALL_INDEX)]
    table["verdict"] = _size_verdicts(table, levels)
    return table.sort_values(["size", "item"], ascending=[False, True], ignore_index=True)[DRIFT]


def share_drift(before: pd.Series, after: pd.Series, *, seed: int = 7) -> pd.DataFrame:
    """Compare the share of customers in each segment with the previous run, under the same model.

    Parameters
    ----------
    before, after
        Segment by ``customer_id``.

    Returns
    -------
    DataFrame
        Rows of the table drift, one per segment; ``size`` is the absolute difference, large from a quarter of the
        previous share.
    """
    segments = sorted(set(before) | set(after))
    parts = []
    for labels in _align_runs(before, after):
        parts.append((labels.to_numpy(object)[:, None] == np.array(segments, dtype=object)).astype(float))
        parts.append(labels.notna().to_numpy(float)[:, None].repeat(len(segments), axis=1))
    table, sizes = _permuted_differences(RatioParts(*parts), items=segments, seed=seed)
    table = _compare_with_chance(table.assign(what="share", words="share of customers", unit="share"), *sizes)
    large = table["size"] >= LARGE_SHARE_CHANGE * table["before"].where(table["before"] > 0, np.inf)
    table["verdict"] = _size_verdicts(table, [("large", large)])
    return table[DRIFT]


def confidence_drift(before: pd.DataFrame, after: pd.DataFrame, *, seed: int = 7) -> pd.DataFrame:
    """Compare the confidence of assignments with the previous run, overall and by segment, under the same model.

    `before`, `after`: ``segment`` and ``confidence`` by ``customer_id``. Returns rows of the table drift, "all" first;
    large from five percentage points.
    """
    segments = [EVERYONE, *sorted(set(before["segment"]) & set(after["segment"]))]
    parts = []
    for run in _align_runs(before, after):
        inside = run["segment"].to_numpy(object)[:, None] == np.array(segments, dtype=object)
        inside[:, 0] = run["segment"].notna()
        parts += [inside * run["confidence"].fillna(0.0).to_numpy()[:, None], inside.astype(float)]
    table, sizes = _permuted_differences(RatioParts(*parts), items=segments, seed=seed)
    table = _compare_with_chance(table.assign(what="confidence", words="confidence of placing", unit="share"), *sizes)
    table["verdict"] = _size_verdicts(table, [("large", table["size"] >= LARGE_CONFIDENCE_CHANGE)])
    return table[DRIFT]


def _is_numeric(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column)


def _align_runs(before: pd.DataFrame | pd.Series, after: pd.DataFrame | pd.Series) -> tuple:
    """Align both runs by customer, missing where a customer is absent; very many are sampled by a hash of ids."""
    index = before.index.union(after.index).sort_values()
    index = index[hash_sample(index)]
    return before.reindex(index), after.reindex(index)


def _permutation_signs(customers: int, *, seed: int) -> np.ndarray:
    """Draw signs, one row per permutation; the first row is the data as observed."""
    signs = np.random.default_rng(seed).integers(0, 2, (PERMUTATIONS + 1, customers), dtype=np.int8) * 2 - 1
    signs[0] = 1
    return signs.astype(np.float32)


def _bin_changes(before: np.ndarray, after: np.ndarray, *, present: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return by customer and bin the count after less before, and by bin the total of both runs."""
    finite_values = np.concatenate([values[np.isfinite(values)] for values in (before, after)])
    edges = np.unique(quantile_edges(finite_values, parts=BINS)) if len(finite_values) else np.empty(0)
    members = []
    for values, rows in zip((before, after), present, strict=True):
        code = np.where(np.isfinite(values), np.searchsorted(edges, np.nan_to_num(values)), len(edges) + 1)
        members.append((code[:, None] == np.arange(len(edges) + 2)) & rows[:, None])
    return members[1].astype(np.float32) - members[0], (members[0].sum(axis=0) + members[1].sum(axis=0)).astype(float)


def _stability_index(total: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Compute the population stability index of each permutation; half a customer per bin avoids infinities."""
    after, before = ((total + sign * change) / 2 + 0.5 for sign in (1, -1))
    p, q = (counts / counts.sum(axis=1, keepdims=True) for counts in (after, before))
    return ((p - q) * np.log(p / q)).sum(axis=1)


def _permuted_differences(
    parts: RatioParts, *, items: list[str], seed: int
) -> tuple[pd.DataFrame, tuple[np.ndarray, np.ndarray]]:
    """Return the rows of drift, and the size of each difference as observed and when permuted."""
    signs = _permutation_signs(len(parts.before), seed=seed)
    ratios = []
    for sign in (1, -1):
        above, below = (
            (then + now).sum(axis=0) / 2 + sign * (signs @ (now - then).astype(np.float32)) / 2
            for then, now in ((parts.before, parts.after), (parts.before_of, parts.after_of))
        )
        ratios.append(above / np.maximum(below, 1.0))
    sizes = np.abs(ratios[0] - ratios[1])
    return _difference_table(parts, items=items), (sizes[0], sizes[1:])


def _difference_table(parts: RatioParts, *, items: list[str]) -> pd.DataFrame:
    """Compute ratios, and their difference with a 95 % interval by the delta method over customers."""
    totals = [values.sum(axis=0) for values in (parts.before, parts.before_of, parts.after, parts.after_of)]
    before, after = totals[0] / np.maximum(totals[1], 1.0), totals[2] / np.maximum(totals[3], 1.0)
    influence = (parts.after - after * parts.after_of) / np.maximum(totals[3], 1.0)
    influence -= (parts.before - before * parts.before_of) / np.maximum(totals[1], 1.0)
    half = Z95 * np.sqrt(np.square(influence).sum(axis=0))
    difference = after - before
    columns = {"before": before, "after": after, "difference": difference}
    columns |= {"difference_low": difference - half, "difference_high": difference + half}
    return pd.DataFrame({"item": items, **columns}).round(9)


def _compare_with_chance(table: pd.DataFrame, observed: np.ndarray, chance: np.ndarray) -> pd.DataFrame:
    """Add the size, what chance gives of it, and whether it is beyond chance for all rows together."""
    if not len(table):
        return table.assign(size=[], chance=[], beyond=np.empty(0, dtype=bool))
    usual = np.quantile(chance, LEVEL, axis=0)
    scale = np.where(usual > 0, usual, 1.0)
    most = np.quantile((chance / scale).max(axis=1), LEVEL)
    beyond = (observed / scale > most) & (observed > 1e-6)
    return table.assign(size=observed.round(6), chance=(most * usual).round(6), beyond=beyond)


def _size_verdicts(table: pd.DataFrame, levels: list[tuple[str, pd.Series]]) -> list[str]:
    """Return the verdict of each row: its level of size where beyond chance."""
    verdicts = np.select([rows.to_numpy() for _, rows in levels], [level for level, _ in levels], default="small")
    return np.where(table["beyond"], verdicts, "as chance").tolist()
