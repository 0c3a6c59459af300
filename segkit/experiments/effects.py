"""Measure an experiment: effects by arm, outcome and segment that hold together, and which arm suits which segment."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from segkit.experiments.arms import MONEY, Experiment, Outcome
from segkit.experiments.design import MISSES, TREATMENT
from segkit.experiments.estimate import ALPHA, Lift, Price, lift_with_influence, verdict_of, with_interval
from segkit.experiments.readout import INTERVAL_FACTOR, Qini, compute_qini, shrink_effects
from segkit.experiments.trust import Check, check_experiment
from segkit.format import FLOOR
from segkit.stats import Z95, Estimate, least_squares, rank_groups, usable_covariates
from segkit.vocabulary import EVERYONE

EFFECTS = [
    *("arm", "kpi", "segment", "customers", "control_customers", "mean", "control_mean"),
    *("lift", "lift_low", "lift_high", "relative", "verdict", "reason", "se", "df"),
]
MOST_CORRELATED = 300  # effects whose correlations are counted; for more, intervals are wider
DRAWS = 20_000  # of the largest of all errors
FOLDS = 5
NO_VERDICT = "no verdict"
NO_HARM = "no harm shown"


@dataclass(frozen=True)
class Policy:
    """Which arm to give to which segment, and what that is worth on customers that it was not chosen on.

    Parameters
    ----------
    arms
        Segment -> arm, the control where no arm does better.
    value, over_best
        Gain per customer of the outcome, against no treatment and against the best single arm for everyone, with 95 %
        intervals.
    is_net
        Whether the gain is what is left of the margin after the cost of contact.
    """

    kpi: str
    arms: dict[str, str]
    value: Estimate
    over_best: Estimate
    is_net: bool = False


@dataclass(frozen=True)
class Effects:
    """The read-out of an experiment.

    Parameters
    ----------
    table
        ``arm, kpi, segment`` ("all" first), ``customers, control_customers, mean, control_mean, lift`` with ``_low``
        and ``_high``, ``relative`` (lift / control_mean), ``verdict, reason, se, df``. All intervals hold together in
        95 of 100 experiments, with those of ``pairs``.
    pairs
        The arms against each other: ``arm, against, kpi, lift`` with ``_low`` and ``_high``.
    checks
        Whether the experiment can be trusted.
    policy
        None where there is one segment only, and where there is no verdict on the first outcome.
    orders
        Arm -> how well customers can be ordered by its effect on the first outcome.
    clear_share
        Arm -> share of customers in segments whose effect on the first outcome is clearly above zero.
    """

    experiment: Experiment
    table: pd.DataFrame
    pairs: pd.DataFrame
    checks: tuple[Check, ...]
    policy: Policy | None
    orders: dict[str, Qini | None]
    clear_share: dict[str, float]


@dataclass(frozen=True)
class _Contrast:
    """One arm against another, in one outcome and segment."""

    arm: str
    against: str
    outcome: Outcome
    segment: str
    lift: Lift


def measure_effects(
    experiment: Experiment,
    *,
    price: Price | None = None,
    planned: int | None = None,
    split: dict[str, float] | None = None,
    seed: int = 7,
) -> Effects:
    """Measure what each arm of an experiment changed, in each outcome and segment.

    Covariates take out what was known before (Lin 2013). Intervals are simultaneous: the largest of all errors stays
    within them in 95 of 100 experiments (the distribution of the largest is simulated from their correlations).

    Parameters
    ----------
    price
        Of a contact and of a unit of money; without it no return is settled.
    planned
        Customers that the experiment will have, while it still runs: intervals then hold at every look (Waudby-Smith
        et al. 2024). None where it is over.
    split
        Share of customers that each arm was to get; by default the nearest plain split.

    Returns
    -------
    Effects
        With verdicts withheld where a check failed.
    """
    checks, price = check_experiment(experiment, split=split), price or Price()
    table, pairs = estimate_effects(experiment, price=price, planned=planned, checks=checks, seed=seed)
    main = experiment.outcomes[0]
    withheld = [one.name for one in experiment.outcomes if any(check.withholds(one.name) for check in checks)]
    if main.name in withheld:
        arms, policy = (), None
    else:
        arms, policy = experiment.arms, find_policy(experiment, outcome=main, price=price)
    share = _clear_share(table, experiment=experiment, kpi=main.name)
    return Effects(
        experiment=experiment,
        table=table,
        pairs=pairs[~pairs["kpi"].isin(withheld)],
        checks=checks,
        policy=policy,
        orders={arm: _order(experiment, arm=arm, outcome=main, seed=seed) for arm in arms},
        clear_share={arm: share[arm] for arm in arms},
    )


def estimate_effects(
    experiment: Experiment,
    *,
    price: Price | None = None,
    planned: int | None = None,
    checks: Sequence[Check] = (),
    seed: int = 7,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Estimate the effects of all arms, and of the arms against each other, with simultaneous intervals.

    Parameters
    ----------
    price, planned
        As in `measure_effects`.
    checks
        Those that did not pass withhold verdicts.

    Returns
    -------
    tuple of DataFrame
        As ``table`` and ``pairs`` of `Effects`.
    """
    contrasts, influences = _contrasts(experiment)
    fraction = None if planned is None else min(len(experiment.arm) / planned, 1.0)
    each = ALPHA / max(len(contrasts), 1)  # holds also for many effects, and at every look (Dunn 1961)
    if fraction is None and influences.size:
        each = _alpha_each(influences, seed=seed)
    contrasts = [replace(one, lift=_interval(one.lift, alpha=each, fraction=fraction)) for one in contrasts]
    table = _table(contrasts, experiment=experiment, price=price or Price(), checks=checks)
    return table, _pairs(contrasts, control=experiment.control)


def _contrasts(experiment: Experiment) -> tuple[list[_Contrast], np.ndarray]:
    """Estimate each arm against the control in each outcome and segment, and the arms against each other in all."""
    segments = sorted(set(experiment.segment) - {"", EVERYONE})
    asked = [(arm, experiment.control, one, s) for arm in experiment.arms for one in experiment.outcomes
             for s in (EVERYONE, *segments)]  # fmt: skip
    asked += [
        (arm, other, one, EVERYONE)
        for place, arm in enumerate(experiment.arms)
        for other in experiment.arms[place + 1 :]
        for one in experiment.outcomes
    ]
    codes = None if experiment.cluster is None else _household_numbers(experiment.cluster)
    in_arm = {arm: (experiment.arm == arm).to_numpy() for arm in (experiment.control, *experiment.arms)}
    in_segment = {name: (experiment.segment == name).to_numpy() for name in segments}
    before, values = experiment.before.to_numpy(dtype=float), experiment.values.to_numpy(dtype=float)
    place = {name: number for number, name in enumerate(experiment.values)}
    found, influences = [], []
    for arm, against, outcome, segment in asked:
        outcomes = values[:, place[outcome.name]]
        chosen = (in_arm[arm] | in_arm[against]) & ~np.isnan(outcomes) & in_segment.get(segment, True)
        treated = in_arm[arm][chosen]
        if min(treated.sum(), (~treated).sum()) < FLOOR:
            continue
        lift, part = lift_with_influence(
            outcomes[chosen], treated=treated, covariate_values=before[chosen], segment=segment,
            cluster=None if codes is None else codes[chosen],
        )  # fmt: skip
        found.append(_Contrast(arm, against, outcome, segment, lift))
        if len(asked) <= MOST_CORRELATED:
            influences.append(_spread_out(part, chosen=chosen, codes=codes))
    return found, np.array(influences).T


def _household_numbers(cluster: pd.Series) -> np.ndarray:
    """Give each household a number from 0; a customer without one is one of its own."""
    names = cluster.astype("string").str.strip()
    alone = names.isna() | (names == "")
    own = "alone " + pd.Series(range(len(names)), index=names.index).astype("string")
    return pd.factorize(names.mask(alone, own))[0]


def _spread_out(part: np.ndarray, *, chosen: np.ndarray, codes: np.ndarray | None) -> np.ndarray:
    """Write the influence of a part of the customers (or households) into a row for all."""
    whole = np.zeros(len(chosen) if codes is None else codes.max() + 1)
    if codes is None:
        whole[chosen] = part
    else:
        whole[: len(part)] = part
    return whole


def _alpha_each(influences: np.ndarray, *, seed: int) -> float:
    """Return the error of each interval at which all of them hold together in at least 95 of 100 experiments.

    `influences`: customers x effects. The largest of correlated normal errors is simulated (Hothorn, Bretz & Westfall
    2008).
    """
    size = np.sqrt(np.square(influences).sum(axis=0))
    moved = influences[:, size > 0] / size[size > 0]
    if moved.shape[1] < 2:
        return ALPHA
    squares, vectors = np.linalg.eigh(moved.T @ moved)
    root = vectors * np.sqrt(np.maximum(squares, 0.0))
    errors = np.random.default_rng(seed).standard_normal((DRAWS, len(squares))) @ root.T
    return float(2 * stats.norm.sf(np.quantile(np.abs(errors).max(axis=1), 1 - MISSES)))


def _interval(lift: Lift, *, alpha: float, fraction: float | None) -> Lift:
    """Add the interval at 1 - alpha; while the experiment runs, one that holds at every look.

    `fraction`: share of the planned customers that there are; None where the experiment is over.
    """
    if fraction is None:
        return with_interval(lift, alpha=alpha)
    tuned = fraction * (-2 * np.log(alpha) + np.log(1 - 2 * np.log(alpha)))
    half = lift.se * np.sqrt(2 * (tuned + 1) / tuned * np.log(np.sqrt(tuned + 1) / alpha))
    return replace(lift, low=lift.lift - half, high=lift.lift + half)


def _table(
    contrasts: Sequence[_Contrast], *, experiment: Experiment, price: Price, checks: Sequence[Check]
) -> pd.DataFrame:
    rows = []
    for one in contrasts:
        if one.against != experiment.control:
            continue
        lift, failed = one.lift, [check for check in checks if check.withholds(one.outcome.name)]
        verdict, reason = _verdict(one, price=price)
        if failed:
            verdict, reason = NO_VERDICT, failed[0].name
        rows.append(
            {"arm": one.arm, "kpi": one.outcome.name, "segment": one.segment, "customers": lift.treated}
            | {"control_customers": lift.control, "mean": lift.treated_mean, "control_mean": lift.control_mean}
            | {"lift": lift.lift, "lift_low": lift.low, "lift_high": lift.high}
            | {"relative": lift.lift / lift.control_mean if lift.control_mean else np.nan}
            | {"verdict": verdict, "reason": reason, "se": lift.se, "df": lift.df}
        )
    return pd.DataFrame(rows, columns=EFFECTS)


def _verdict(one: _Contrast, *, price: Price) -> tuple[str, str]:
    if not one.outcome.is_guard:
        return verdict_of(one.lift, price=price if one.outcome.kind == MONEY else Price())
    if one.lift.low > 0:
        return "stop", "the guardrail gets worse"
    return NO_HARM, "the interval does not settle that the guardrail gets worse"


def _pairs(contrasts: Sequence[_Contrast], *, control: str) -> pd.DataFrame:
    rows = [
        {"arm": one.arm, "against": one.against, "kpi": one.outcome.name, "lift": one.lift.lift}
        | {"lift_low": one.lift.low, "lift_high": one.lift.high}
        for one in contrasts
        if one.against != control
    ]
    return pd.DataFrame(rows, columns=["arm", "against", "kpi", "lift", "lift_low", "lift_high"])


def _clear_share(table: pd.DataFrame, *, experiment: Experiment, kpi: str) -> dict[str, float]:
    """Return for each arm the share of customers in segments whose interval lies above zero."""
    clear = table[(table["kpi"] == kpi) & (table["lift_low"] > 0)]
    if experiment.has_segments:
        clear = clear[clear["segment"] != EVERYONE]
    sizes = experiment.segment.value_counts(normalize=True)
    return {arm: float(sizes.reindex(clear.loc[clear["arm"] == arm, "segment"]).sum()) for arm in experiment.arms}


def _order(experiment: Experiment, *, arm: str, outcome: Outcome, seed: int) -> Qini | None:
    """Measure how well customers can be ordered by the effect of an arm: by segment and by what predicts most."""
    values = experiment.values[outcome.name]
    chosen = experiment.arm.isin((arm, experiment.control)) & values.notna()
    values, before = values[chosen], experiment.before[chosen]
    units = pd.DataFrame({"segment": EVERYONE, "stratum": experiment.segment[chosen]})
    units["arm"] = np.where(experiment.arm[chosen] == arm, TREATMENT, "control")
    columns = usable_covariates(before.to_numpy())
    adjusted = values
    if columns.shape[1]:
        centred = (columns - columns.mean(axis=0)) / columns.std(axis=0)
        slopes = least_squares(values.to_numpy(), (units["arm"] == TREATMENT).to_numpy(float), centred).slopes[2:]
        adjusted = values - centred @ slopes
        third = rank_groups(pd.Series(centred[:, np.argmax(np.abs(slopes))]), parts=3)
        units["stratum"] = units["stratum"] + "/" + third.astype(str)
    if units["stratum"].nunique() < 2:
        return None
    return compute_qini(units, adjusted, seed=seed)


def find_policy(experiment: Experiment, *, outcome: Outcome, price: Price) -> Policy | None:
    """Choose an arm for each segment, and value the choice on customers that it was not made on.

    Customers are split into five parts; each part is given the arms that the other four would choose, and the
    difference to the control of the same segment is its value. As in `compute_qini`, each pair of parts counts twice,
    and intervals are wider for it.

    Returns None where there is one segment only.
    """
    known = (experiment.segment != "") & experiment.values[outcome.name].notna()
    people = pd.DataFrame({"arm": experiment.arm, "segment": experiment.segment, "y": experiment.values[outcome.name]})[
        known
    ]
    if people["segment"].nunique() < 2:
        return None
    is_net = price.is_complete and outcome.kind == MONEY
    if is_net:
        people["y"] = people["y"] * price.margin - np.where(
            people["arm"] == experiment.control, 0.0, price.contact_cost
        )
    fold = people.groupby(["arm", "segment"]).cumcount().to_numpy() % FOLDS
    values, over, variance = [], [], np.zeros(2)
    for part in range(FOLDS):
        chosen, single = _choose_arms(people[fold != part], control=experiment.control)
        held = people[fold == part]
        worth, moved = _worth(held, chosen=chosen, control=experiment.control)
        alone, moved_alone = _worth(held, chosen=dict.fromkeys(chosen, single), control=experiment.control)
        values.append(worth)
        over.append(worth - alone)
        variance += [np.square(moved).sum(), np.square(moved - moved_alone).sum()]
    halves = INTERVAL_FACTOR * Z95 * np.sqrt(np.maximum(variance, 0)) / FOLDS
    return Policy(
        kpi=outcome.name,
        arms=_choose_arms(people, control=experiment.control)[0],
        value=Estimate.around(np.mean(values), half=halves[0]),
        over_best=Estimate.around(np.mean(over), half=halves[1]),
        is_net=is_net,
    )


def _choose_arms(people: pd.DataFrame, *, control: str) -> tuple[dict[str, str], str]:
    """Choose the arm of each segment, and one for everyone, by effects shrunk towards the mean of the arm."""
    segment, segments = pd.factorize(people["segment"], sort=True)
    y, sizes = people["y"].to_numpy(), np.bincount(segment)
    means, noises = {}, {}
    for arm in sorted(set(people["arm"])):
        given = (people["arm"] == arm).to_numpy()
        counts = np.bincount(segment[given], minlength=len(segments))
        sums, squares = (np.bincount(segment[given], y[given] ** power, minlength=len(segments)) for power in (1, 2))
        with np.errstate(divide="ignore", invalid="ignore"):
            means[arm] = sums / counts
            noises[arm] = (squares - sums**2 / counts) / (counts - 1) / counts
    gains = {control: pd.Series(0.0, index=segments)}
    for arm in sorted(set(means) - {control}):
        effect, noise = means[arm] - means[control], noises[arm] + noises[control]
        gains[arm] = shrink_effects(pd.Series(effect, index=segments), pd.Series(noise, index=segments))
    found = pd.DataFrame(gains)
    return found.idxmax(axis=1).to_dict(), str(found.mul(sizes / sizes.sum(), axis=0).sum().idxmax())


def _worth(people: pd.DataFrame, *, chosen: dict[str, str], control: str) -> tuple[float, np.ndarray]:
    """Return the gain per customer of giving each segment its arm, and how much each customer moves it."""
    gain, moved = 0.0, np.zeros(len(people))
    y, arms, segment = (people[name].to_numpy() for name in ("y", "arm", "segment"))
    for name, arm in chosen.items():
        here = segment == name
        given, left = here & (arms == arm), here & (arms == control)
        if arm == control or not given.any() or not left.any():
            continue
        effect = y[given].mean() - y[left].mean()
        gain += here.mean() * effect
        moved[given] += here.mean() * (y[given] - y[given].mean()) / given.sum()
        moved[left] -= here.mean() * (y[left] - y[left].mean()) / left.sum()
        moved += effect * (here - here.mean()) / len(people)
    return gain, moved
