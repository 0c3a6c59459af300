"""Simulated experiments with arms and a known truth: do intervals, verdicts, checks and the policy hold?

usage: python benchmarks/measure.py --part arms [--experiments 500] [--seed 7]
Customers are drawn from made-up populations in which the mean outcome of each customer under each arm is known. An
outcome is binary, a count, or money that 95 % of customers do not spend (amounts log-normal). Two covariates predict
it.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from segkit.experiments.arms import BINARY, COUNT, MONEY, Experiment, Outcome
from segkit.experiments.effects import estimate_effects, find_policy
from segkit.experiments.estimate import Price
from segkit.experiments.trust import check_experiment
from segkit.vocabulary import EVERYONE

ARMS = ("control", "letter", "voucher")
SEGMENTS = ("S01", "S02", "S03", "S04")
LIFTS = {"control": (0, 0, 0, 0), "letter": (0.0, 0.0, 0.4, 0.8), "voucher": (0.3, 0.3, 0.3, 0.3)}  # by segment
BASE = {BINARY: 0.12, COUNT: 1.2, MONEY: 0.05}  # chance, mean, chance to spend at all
PEOPLE = 200_000
CUSTOMERS = 6_000
ERRORS_AT_5 = 1.959964
LOOKS = 10


def population(kind: str, *, lifts: dict[str, tuple[float, ...]], seed: int) -> pd.DataFrame:
    """Make up customers with two covariates, a segment, and the chance or mean of their outcome under each arm."""
    rng = np.random.default_rng(seed)
    people = pd.DataFrame({"past": rng.gamma(2.0, 0.5, PEOPLE), "recent": rng.random(PEOPLE)})
    people["segment"] = rng.choice(SEGMENTS, PEOPLE, p=(0.4, 0.3, 0.2, 0.1))
    base = BASE[kind] * people["past"] * (0.5 + people["recent"])
    place = people["segment"].map(SEGMENTS.index).to_numpy()
    for arm, lift in lifts.items():
        raised = base * (1 + np.array(lift)[place])
        people[arm] = raised if kind == COUNT else raised.clip(upper=0.9)
    return people


def draw(people: pd.DataFrame, kind: str, *, customers: int, rng: np.random.Generator, arms: tuple[str, ...] = ARMS,
         by_segment: bool = True) -> Experiment:  # fmt: skip
    """Draw customers and arms, and their outcomes."""
    drawn = people.iloc[rng.integers(len(people), size=customers)].reset_index(drop=True)
    number = rng.permutation(np.arange(customers) % len(arms))
    level = drawn[list(arms)].to_numpy()[np.arange(customers), number]
    if kind == COUNT:
        values = rng.poisson(level).astype(float)
    else:
        values = (rng.random(customers) < level).astype(float)
    if kind == MONEY:
        values *= np.exp(rng.normal(np.log(60) - 0.5, 1.0, customers))
    arm = pd.Series(np.array(arms, dtype=object)[number], name="arm")
    segment = drawn["segment"] if by_segment else pd.Series(EVERYONE, index=drawn.index)
    return Experiment(
        label="made up", arm=arm, segment=segment, values=pd.DataFrame({"kpi": values}),
        before=drawn[["past", "recent"]], control=arms[0], arms=arms[1:], outcomes=(Outcome("kpi", kind),),
    )  # fmt: skip


def truths(people: pd.DataFrame, kind: str) -> pd.DataFrame:
    """The mean outcome by segment and arm, in the unit of the outcome."""
    means = people.groupby("segment")[[*ARMS]].mean()
    means.loc[EVERYONE] = people[[*ARMS]].mean()
    return means * (60 if kind == MONEY else 1)


def coverage(kind: str, *, times: int, seed: int) -> dict[str, float]:
    """Do the eleven intervals (two arms in all and in four segments, and one arm against the other) hold at once?"""
    people = population(kind, lifts=LIFTS, seed=seed)
    means = truths(people, kind)
    held, one_by_one = [], []
    for number in range(times):
        table, pairs = estimate_effects(
            draw(people, kind, customers=CUSTOMERS, rng=np.random.default_rng([seed, number]))
        )
        true = [means.loc[row.segment, row.arm] - means.loc[row.segment, "control"] for row in table.itertuples()]
        inside = table["lift_low"].le(true) & table["lift_high"].ge(true)
        against = means.loc[EVERYONE, "letter"] - means.loc[EVERYONE, "voucher"]
        other = pairs["lift_low"].le(against) & pairs["lift_high"].ge(against)
        held.append(inside.all() and other.all())
        one_by_one.append(inside.mean())
    return {"all hold": np.mean(held), "one by one": np.mean(one_by_one)}


def false_scale(kind: str, *, times: int, seed: int) -> float:
    """How often is an arm scaled that only pays for itself (money), or called better that is not (other kinds)?"""
    lift = 0.3 if kind == MONEY else 0.0
    people = population(kind, lifts={arm: (lift * (arm != "control"),) * 4 for arm in ARMS}, seed=seed)
    means = truths(people, kind)
    even = float(means.sub(means["control"], axis=0).to_numpy().max())
    price = Price(contact_cost=even, margin=1.0) if kind == MONEY else Price()
    wrong = 0
    for number in range(times):
        sample = draw(people, kind, customers=CUSTOMERS, rng=np.random.default_rng([seed, 1, number]))
        verdicts = estimate_effects(sample, price=price)[0]["verdict"]
        wrong += verdicts.isin(["scale"] if kind == MONEY else ["scale", "go on"]).any()
    return wrong / times


def power(kind: str, *, times: int, seed: int) -> tuple[float, float]:
    """How often is a true lift seen: by the product, and by ordinary regression on arm and covariates?"""
    lift = {BINARY: 0.24, COUNT: 0.075, MONEY: 0.65}[kind]
    people = population(kind, lifts={"control": (0,) * 4, "letter": (lift,) * 4}, seed=seed)
    seen, plain = 0, 0
    for number in range(times):
        rng = np.random.default_rng([seed, 2, number])
        sample = draw(people, kind, customers=CUSTOMERS, rng=rng, arms=("control", "letter"), by_segment=False)
        seen += estimate_effects(sample)[0]["lift_low"].iloc[0] > 0
        plain += _regression(sample) > ERRORS_AT_5
    return seen / times, plain / times


def _regression(sample: Experiment) -> float:
    """The t value of the arm in a least-squares regression with covariates and White's errors (HC1)."""
    treated = (sample.arm != sample.control).to_numpy(float)
    design = np.column_stack([np.ones(len(treated)), treated, sample.before.to_numpy()])
    values = sample.values["kpi"].to_numpy()
    inverse = np.linalg.inv(design.T @ design)
    slopes = inverse @ design.T @ values
    left = (values - design @ slopes) * np.sqrt(len(values) / (len(values) - design.shape[1]))
    return float(slopes[1] / np.sqrt(np.square(design @ inverse[1] * left).sum()))


def policy(kind: str, *, times: int, seed: int) -> dict[str, float]:
    """By how much is the value of a policy overstated, in shares of the mean of the control? Does its interval hold?"""
    people = population(kind, lifts=LIFTS, seed=seed)
    means = truths(people, kind)
    sizes = people["segment"].value_counts(normalize=True)
    gaps, inside = [], []
    for number in range(times):
        sample = draw(people, kind, customers=CUSTOMERS, rng=np.random.default_rng([seed, 3, number]))
        found = find_policy(sample, outcome=sample.outcomes[0], price=Price())
        worth = sum(sizes[s] * (means.loc[s, arm] - means.loc[s, "control"]) for s, arm in found.arms.items())
        gaps.append((found.value.value - worth) / means.loc[EVERYONE, "control"])
        inside.append(found.value.low <= worth <= found.value.high)
    error = np.std(gaps) / np.sqrt(times)
    return {"gap": np.mean(gaps), "error": error, "holds": np.mean(inside)}


def split(chances: tuple[float, ...], *, exact: bool, times: int, seed: int, customers: int = 5_000) -> float:
    """How often is a split called wrong?"""
    found = 0
    for number in range(times):
        rng = np.random.default_rng([seed, 4, number])
        counts = np.round(np.array(chances) * customers).astype(int) if exact else rng.multinomial(customers, chances)
        arm = pd.Series(np.repeat(ARMS[: len(chances)], counts), name="arm")
        values = pd.DataFrame({"kpi": np.zeros(len(arm))})
        sample = Experiment(
            "made up", arm=arm, segment=arm, values=values, before=pd.DataFrame(index=arm.index), control=ARMS[0],
            arms=ARMS[1 : len(chances)], outcomes=(Outcome("kpi", BINARY),),
        )  # fmt: skip
        found += not check_experiment(sample)[0].passed
    return found / times


def looks(*, planned: bool, times: int, seed: int) -> float:
    """How often does one of ten looks at an experiment without any effect find one?"""
    people = population(BINARY, lifts={"control": (0,) * 4, "letter": (0,) * 4}, seed=seed)
    wrong = 0
    for number in range(times):
        rng = np.random.default_rng([seed, 5, number])
        whole = draw(people, BINARY, customers=CUSTOMERS, rng=rng, arms=("control", "letter"), by_segment=False)
        for look in range(1, LOOKS + 1):
            end = CUSTOMERS * look // LOOKS
            part = Experiment(
                whole.label, arm=whole.arm[:end], segment=whole.segment[:end], values=whole.values[:end],
                before=whole.before[:end], control=whole.control, arms=whole.arms, outcomes=whole.outcomes,
            )  # fmt: skip
            row = estimate_effects(part, planned=CUSTOMERS if planned else None)[0].iloc[0]
            if row["lift_low"] > 0 or row["lift_high"] < 0:
                wrong += 1
                break
    return wrong / times


def report(show: Callable[[str], None], *, times: int, seed: int, only: str) -> None:
    """Print the tables; `only` is a part of a name, or empty for all."""
    heads = ["outcome", "experiments", "all 11 intervals hold", "one by one", "false verdict", "lift seen"]
    heads += ["by regression", "policy value, over the truth", "its interval holds"]
    show(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for kind, name in ((BINARY, "binary, 12 %"), (COUNT, "count, 1.2 a customer"), (MONEY, "money, 95 % zeros")):
        if only not in name:
            continue
        held = coverage(kind, times=times, seed=seed)
        wrong = false_scale(kind, times=times, seed=seed)
        seen, plain = power(kind, times=times, seed=seed)
        worth = policy(kind, times=times, seed=seed)
        show(
            f"| {name} | {times} | {held['all hold']:.3f} | {held['one by one']:.3f} | {wrong:.3f} | {seen:.2f} "
            f"| {plain:.2f} | {100 * worth['gap']:+.1f} ± {196 * worth['error']:.1f} % | {worth['holds']:.3f} |"
        )
    if only in "split":
        _report_splits(show, times=times, seed=seed)
    if only in "looks":
        show("\n| ten looks at no effect | finds one |\n|---|---|")
        for label, planned in (("intervals of the end", False), ("with --look", True)):
            show(f"| {label} | {looks(planned=planned, times=times, seed=seed):.3f} |")


def _report_splits(show: Callable[[str], None], *, times: int, seed: int) -> None:
    show("\n| 5,000 customers, split | called wrong |\n|---|---|")
    for label, chances, exact in (
        ("2,600 : 2,400", (0.52, 0.48), True),
        ("each customer by a chance of 52 : 48", (0.52, 0.48), False),
        ("by a chance of 50 : 50", (0.5, 0.5), False),
        ("by a chance of 80 : 20", (0.8, 0.2), False),
        ("by equal chances of three", (1 / 3,) * 3, False),
    ):
        found = split(chances, exact=exact, times=1 if exact else 10 * times, seed=seed)
        show(f"| {label} | {found:.3f} |")
