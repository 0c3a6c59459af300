"""Check whether an experiment can be trusted: its split, losses, balance, dates, households and other tests."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import inf
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from segkit.errors import InputError
from segkit.experiments.arms import Experiment
from segkit.format import joined
from segkit.stats import CONSTANT

MISMATCH = 0.01  # chance of a split as uneven as this one, below which it was not drawn as planned
DIFFERS = 0.001  # chance of a difference in what was known before, below which arms are not alike
NEAR_EQUAL = 0.15  # of an equal share: arms that deviate less were meant to be equal
STEPS = (20, 12, 10, 8, 6)  # other plain splits are whole parts of these
MOST_MIXED = 0.01  # share of households with customers in several arms, above which an effect is diluted


@dataclass(frozen=True)
class Check:
    """A check of an experiment.

    Parameters
    ----------
    name
        split, losses, balance, dates, households or other_test.
    passed
        Whether nothing stands against a verdict.
    kpi
        The outcome that it is about; "" for all.
    p_value
        Chance of what was found if all was well; missing where there is no test.
    facts
        What was found.
    stops
        Whether there is no verdict where it did not pass.
    """

    name: str
    passed: bool
    kpi: str = ""
    p_value: float = np.nan
    facts: dict[str, Any] = field(default_factory=dict)
    stops: bool = True

    def withholds(self, kpi: str) -> bool:
        """Return whether no verdict on an outcome may be given."""
        return not self.passed and self.stops and self.kpi in ("", kpi)


def check_experiment(experiment: Experiment, *, split: Mapping[str, float] | None = None) -> tuple[Check, ...]:
    """Check the split, losses, what was known before, dates, households and other tests of an experiment.

    Parameters
    ----------
    split
        Share of customers that each arm was to get; by default the nearest plain split.

    Raises
    ------
    InputError
        The split does not name each arm once, with a share above zero.
    """
    checks = [_check_split(experiment.arm, planned=split or {})]
    checks += [check for outcome in experiment.outcomes if (check := _check_losses(experiment, outcome.name))]
    if experiment.before.shape[1]:
        checks.append(_check_balance(experiment))
    if experiment.early is not None:
        checks.append(Check("dates", passed=not experiment.early, facts={"customers": experiment.early}))
    if experiment.cluster is not None:
        checks.append(_check_households(experiment))
    checks += [_check_other_test(experiment, name) for name in experiment.other_tests]
    return tuple(checks)


def _check_split(arms: pd.Series, *, planned: Mapping[str, float]) -> Check:
    """Test the sizes of the arms against the split that was planned (sample ratio mismatch; Fabijan et al. 2019)."""
    sizes = arms.value_counts().sort_index()
    if planned and (set(planned) != set(sizes.index) or not all(0 < share < inf for share in planned.values())):
        raise InputError(
            f"--split: it gives {joined(sorted(planned))}; give each arm a share above zero. There are "
            f"{joined(list(sizes.index))}."
        )
    shares = pd.Series(planned, dtype=float).reindex(sizes.index) if planned else _plain_split(sizes / sizes.sum())
    shares = shares / shares.sum()
    p_value = float(stats.chisquare(sizes, shares * sizes.sum()).pvalue)
    facts = {"sizes": {str(arm): int(size) for arm, size in sizes.items()}, "shares": shares.to_dict()}
    facts |= {"is_planned": bool(planned), "once_in": 1 / max(p_value, 1e-9)}
    return Check("split", passed=p_value >= MISMATCH, p_value=p_value, facts=facts)


def _plain_split(shares: pd.Series) -> pd.Series:
    """Return equal shares if they are near, else the nearest split in whole parts."""
    equal = pd.Series(1 / len(shares), index=shares.index)
    if (shares / equal - 1).abs().max() < NEAR_EQUAL:
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
    shares = {str(arm): float(share) for arm, share in missing.groupby(experiment.arm).mean().items()}
    return Check("losses", passed=p_value >= MISMATCH, kpi=kpi, p_value=p_value, facts={"shares": shares})


def _check_balance(experiment: Experiment) -> Check:
    """Test whether what was known before is alike in all arms (Hotelling's T squared), and name what differs most."""
    worst, worst_p = (0.0, "", experiment.arms[0]), 1.0
    for arm in experiment.arms:
        treated = (experiment.arm == arm).to_numpy()
        left = (experiment.arm == experiment.control).to_numpy()
        values = experiment.before.to_numpy(dtype=float)
        varies = values[treated | left].std(axis=0) > CONSTANT
        values, names = values[:, varies], experiment.before.columns[varies]
        if not values.shape[1]:
            continue
        difference = values[treated].mean(axis=0) - values[left].mean(axis=0)
        parts = [np.atleast_2d(np.cov(values[one], rowvar=False)) / one.sum() for one in (treated, left)]
        scale = np.sqrt(np.diag(parts[0] + parts[1]))
        scale[scale == 0] = 1.0
        spread = (parts[0] + parts[1]) / np.outer(scale, scale)  # of columns of one size, so that none is lost
        size = float(difference / scale @ np.linalg.pinv(spread, rcond=1e-10) @ (difference / scale))
        p_value = float(stats.chi2.sf(size, np.linalg.matrix_rank(spread, tol=1e-8)))
        worst_p = min(worst_p, p_value)
        standard = np.abs(difference) / values[treated | left].std(axis=0)
        largest = int(np.argmax(standard))
        worst = max(worst, (float(standard[largest]), str(names[largest]), arm))
    size, name, arm = worst
    p_value = min(worst_p * len(experiment.arms), 1.0)
    return Check(
        "balance", passed=p_value >= DIFFERS, p_value=p_value,
        facts={"size": size, "column": name, "arm": arm, "control": experiment.control},
    )  # fmt: skip


def _check_households(experiment: Experiment) -> Check:
    """Count the households with customers in several arms: what one of them gets, the other sees."""
    known = experiment.cluster.notna() & (experiment.cluster.astype(str) != "")
    groups = experiment.arm[known].groupby(experiment.cluster[known])
    shared = groups.size() > 1
    share = float((groups.nunique() > 1).mean()) if len(shared) else 0.0
    facts = {"share": share, "column": experiment.cluster.name, "shared": float(shared.mean()) if len(shared) else 0.0}
    return Check("households", passed=share <= MOST_MIXED, facts=facts, stops=False)


def _check_other_test(experiment: Experiment, name: str) -> Check:
    """Test whether the arms of another experiment are spread evenly over those of this one."""
    counts = pd.crosstab(experiment.arm, experiment.other_tests[name])
    p_value = float(stats.chi2_contingency(counts).pvalue) if min(counts.shape) > 1 else 1.0
    return Check("other_test", passed=p_value >= DIFFERS, p_value=p_value, facts={"column": name})
