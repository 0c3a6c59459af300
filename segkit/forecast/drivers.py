"""Find habits that go with not coming back, of customers who have been silent for equally long."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.special import ndtr

from segkit.forecast.model import TrainingSet
from segkit.format import FLOOR
from segkit.stats import Z95, discoveries, rank_groups
from segkit.vocabulary import EVERYONE, describe

MIN_PER_OUTCOME = 10  # active and lost customers of a segment; with fewer, no driver is sought
FALSE_DISCOVERY_RATE = 0.05  # of the drivers found, the share that chance explains (Benjamini & Hochberg 1995)
MAX_CORRELATION = 0.7  # rank correlation above which a second feature adds nothing
MAX_DRIVERS = 5  # of a segment
GROUP_CUSTOMERS = 60  # equally silent customers who are compared with each other, about
MAX_GROUPS = 20
SILENCE = ("recency_days", "overdue")  # how long a customer has been silent, in days and in usual gaps
DRIVERS = ["segment", "feature", "words", "customers", "lost_above", "lost_below", "effect", "effect_low",
           "effect_high"]  # fmt: skip


def churn_drivers(training: TrainingSet, segment: pd.Series) -> pd.DataFrame:
    """Find the habits that go with not coming back, given how long a customer has been silent.

    Members are grouped by the days since they were last active, and each group is halved at its median of a habit; the
    effect is the share lost above it less the share lost below, weighted as by Mantel & Haenszel (Greenland & Robins
    1985). This is an association, not a cause.

    Parameters
    ----------
    training
        Customers one horizon ago, and what they did.
    segment
        Their segment then.

    Returns
    -------
    pd.DataFrame
        segment (and "all"), feature, words, customers, lost_above, lost_below (shares), effect, effect_low, effect_high
        (95 %); at most five of a segment, the strongest first; of all drivers found, one in twenty may be chance.
    """
    features, lost = training.snapshot.data.features, ~training.outcomes.active
    habits = [name for name in features.columns if not _is_silence(name)]
    silent = features["recency_days"]
    rows = [row for name, inside in _members(segment)
            for row in _compare_halves(name, features.loc[inside, habits], lost[inside], silent[inside])]  # fmt: skip
    table = pd.DataFrame(rows, columns=[*DRIVERS, "p"])
    if table.empty:
        return table[DRIVERS]
    found = table[discoveries(table["p"].to_numpy(), share=FALSE_DISCOVERY_RATE)]
    found = found.assign(size=found["effect"].abs()).sort_values(
        ["segment", "p", "size", "feature"], ascending=[True, True, False, True]
    )
    ranks, drivers = features[habits].rank(), []
    for _, row in found.iterrows():
        own = [k["feature"] for k in drivers if k["segment"] == row["segment"]]
        alike = (abs(ranks[row["feature"]].corr(ranks[other])) >= MAX_CORRELATION for other in own)
        if len(own) < MAX_DRIVERS and not any(alike):
            drivers.append(row)
    return pd.DataFrame(drivers, columns=DRIVERS).reset_index(drop=True)


def _is_silence(name: str) -> bool:
    """Return whether a feature is how long a customer has been silent, in other words."""
    return name in SILENCE or name.startswith("stage_") or name.endswith("_recency_days")


def _members(segment: pd.Series) -> Iterator[tuple[str, np.ndarray]]:
    """Yield everyone, then each segment, with a mask of its members."""
    yield EVERYONE, np.ones(len(segment), dtype=bool)
    for name in sorted(set(segment)):
        yield name, (segment == name).to_numpy()


def _compare_halves(name: str, features: pd.DataFrame, lost: np.ndarray, silent: pd.Series) -> list[tuple[object, ...]]:
    """Return a row for each habit where enough customers were lost and enough were not."""
    if min(lost.sum(), (~lost).sum()) < MIN_PER_OUTCOME:
        return []
    group = rank_groups(silent, parts=min(max(len(silent) // GROUP_CUSTOMERS, 1), MAX_GROUPS))
    rows = []
    for feature, values in features.items():
        above = (values > values.groupby(group).transform("median")).to_numpy()
        if min(above.sum(), (~above).sum()) < FLOOR:
            continue
        shares, effect, spread = _weighted_difference(lost, above, group)
        if not spread > 0:
            continue
        p = 2 * ndtr(-abs(effect) / spread)
        ends = np.round((effect, effect - Z95 * spread, effect + Z95 * spread), 9)
        rows.append((name, feature, describe(str(feature)).label, len(lost), *shares, *ends, p))
    return rows


def _weighted_difference(
    lost: np.ndarray, above: np.ndarray, group: np.ndarray
) -> tuple[tuple[float, float], float, float]:
    """Return the shares lost above and below, their difference, and its standard deviation, over all groups."""
    parts = int(group.max()) + 1
    size = [np.bincount(group[half], minlength=parts).astype(float) for half in (above, ~above)]
    gone = [np.bincount(group[half], weights=lost[half], minlength=parts) for half in (above, ~above)]
    both = (size[0] > 0) & (size[1] > 0)
    size, gone = [each[both] for each in size], [each[both] for each in gone]
    weight = size[0] * size[1] / (size[0] + size[1])
    weight = weight / weight.sum()
    shares = tuple(float((weight * g / n).sum()) for g, n in zip(gone, size, strict=True))
    usual = [(g + 1) / (n + 2) for g, n in zip(gone, size, strict=True)]
    variance = sum((weight**2 * u * (1 - u) / n).sum() for u, n in zip(usual, size, strict=True))
    return shares, shares[0] - shares[1], float(np.sqrt(variance))
