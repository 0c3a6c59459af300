"""Check whether an experiment can be trusted: its split, losses, balance, dates and households."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pandas as pd
from scipy import stats

from segkit.experiments.arms import Experiment
from segkit.format import count, joined, percent
from segkit.stats import CONSTANT

MISMATCH = 0.01  # chance of a split as uneven as this one, below which it was not drawn as planned
DIFFERS = 0.001  # chance of a difference in what was known before, below which arms are not alike
STEPS = (20, 12, 10, 8, 6)  # plain splits are whole parts of these
MOST_MIXED = 0.01  # share of households with customers in several arms, above which an effect is diluted


@dataclass(frozen=True)
class Check:
    """A check of an experiment.

    Parameters
    ----------
    name
        split, losses, balance, dates or households.
    words
        What was found, as a sentence.
    passed
        Whether nothing stands against a verdict.
    kpi
        The outcome that it is about; "" for all.
    p_value
        Chance of what was found if all was well; missing where there is no test.
    """

    name: str
    words: str
    passed: bool
    kpi: str = ""
    p_value: float = np.nan
    stops: bool = True

    def withholds(self, kpi: str) -> bool:
        """Return whether no verdict on an outcome may be given."""
        return not self.passed and self.stops and self.kpi in ("", kpi)


def check_experiment(experiment: Experiment, *, split: Mapping[str, float] | None = None) -> tuple[Check, ...]:
    """Check the split, losses, what was known before, dates and households of an experiment.

    Parameters
    ----------
    split
        Share of customers that each arm was to get; by default the nearest plain split.
    """
    checks = [_check_split(experiment.arm, planned=split)]
    checks += [check for outcome in experiment.outcomes if (check := _check_losses(experiment, outcome.name))]
    if experiment.before.shape[1]:
        checks.append(_check_balance(experiment))
    if experiment.early is not None:
        early = experiment.early
        words = f"{count(early)} outcomes are dated before their treatment." if early else "No outcome is dated early."
        checks.append(Check("dates", words, passed=not early))
    if experiment.cluster is not None:
        checks.append(_check_households(experiment))
    return tuple(checks)


def _check_split(arms: pd.Series, *, planned: Mapping[str, float] | None) -> Check:
    """Test the sizes of the arms against the split that was planned (sample ratio mismatch)."""
    sizes = arms.value_counts().sort_index()
    shares = (
        pd.Series(planned, dtype=float).reindex(sizes.index) if planned else _nearest_plain_split(sizes / sizes.sum())
    )
    expected = shares / shares.sum() * sizes.sum()
    p_value = float(stats.chisquare(sizes, expected).pvalue)
    found = joined([f"{count(size)} in {arm}" for arm, size in sizes.items()])
    wanted = " : ".join(percent(share) for share in shares / shares.sum())
    source = "planned" if planned else "the nearest plain split"
    if p_value >= MISMATCH:
        return Check("split", f"{found}: as {wanted} ({source}) would give.", passed=True, p_value=p_value)
    words = (
        f"{found}: a split of {wanted} ({source}) gives this once in {count(1 / max(p_value, 1e-9))} experiments. "
        "Customers were lost or added in one arm, or the split was another: state it with --split."
    )
    return Check("split", words, passed=False, p_value=p_value)


def _nearest_plain_split(shares: pd.Series) -> pd.Series:
    """Return equal shares if they are near, else the nearest split in whole parts."""
    equal = pd.Series(1 / len(shares), index=shares.index)
    if (shares - equal).abs().max() <= 1 / (2 * STEPS[0]):
        return equal
    candidates = [(shares * step).round().clip(lower=1) / step for step in STEPS]
    whole = [one for one in candidates if Fraction(float(one.sum())).limit_denominator(1000) == 1]
    if not whole:
        return shares
    return min(whole, key=lambda one: float((one - shares).abs().max()))


def _check_losses(experiment: Experiment, kpi: str) -> Check | None:
    """Test whether outcomes are missing as often in each arm; None where none is missing."""
    missing = experiment.values[kpi].isna()
    if not missing.any():
        return None
    counts = pd.crosstab(experiment.arm, missing)
    p_value = float(stats.chi2_contingency(counts).pvalue) if counts.shape[1] == 2 else 1.0
    shares = joined([f"{percent(share)} in {arm}" for arm, share in missing.groupby(experiment.arm).mean().items()])
    if p_value >= MISMATCH:
        return Check("losses", f"'{kpi}' is missing for {shares}, which chance can explain.", True, kpi, p_value)
    words = f"'{kpi}' is missing for {shares}: customers were lost because of the treatment, so arms are not alike."
    return Check("losses", words, passed=False, kpi=kpi, p_value=p_value)


def _check_balance(experiment: Experiment) -> Check:
    """Test whether what was known before is alike in all arms (Hotelling's T squared), and name what differs most."""
    worst, worst_p = (0.0, "", ""), 1.0
    for arm in experiment.arms:
        treated = (experiment.arm == arm).to_numpy()
        left = (experiment.arm == experiment.control).to_numpy()
        values = experiment.before.to_numpy(dtype=float)
        values = values[:, values[treated | left].std(axis=0) > CONSTANT]
        names = experiment.before.columns[experiment.before[treated | left].std(ddof=0) > CONSTANT]
        if not values.shape[1]:
            continue
        difference = values[treated].mean(axis=0) - values[left].mean(axis=0)
        spread = np.cov(values[treated], rowvar=False) / treated.sum() + np.cov(values[left], rowvar=False) / left.sum()
        spread = np.atleast_2d(spread)
        size = float(difference @ np.linalg.pinv(spread) @ difference)
        p_value = float(stats.chi2.sf(size, np.linalg.matrix_rank(spread)))
        worst_p = min(worst_p, p_value)
        standard = np.abs(difference) / values[treated | left].std(axis=0)
        largest = int(np.argmax(standard))
        worst = max(worst, (float(standard[largest]), str(names[largest]), arm))
    size, name, arm = worst
    passed = worst_p * len(experiment.arms) >= DIFFERS
    words = (
        f"What was known before is alike in all arms. The largest difference is {size:.2f} standard deviations, in {name}."
        if passed
        else f"'{name}' differs between {arm} and {experiment.control} by {size:.2f} standard deviations, more than chance "
        "gives. Customers were not assigned at random, or it was measured after the treatment: then leave it out."
    )
    return Check("balance", words, passed=passed, p_value=worst_p)


def _check_households(experiment: Experiment) -> Check:
    """Count the households with customers in several arms: what one sees, the other hears of."""
    arms = experiment.arm.groupby(experiment.cluster.fillna("")).nunique()
    share = float((arms > 1).mean())
    words = f"{percent(share)} of {experiment.cluster.name} groups have customers in several arms"
    if share <= MOST_MIXED:
        return Check("households", f"{words}.", passed=True)
    return Check("households", f"{words}: the effect is larger than it looks.", passed=False, stops=False)
