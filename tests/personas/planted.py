"""A world of customers in which taking something up is worth a known amount in one segment, and nothing in others."""

import numpy as np
import pandas as pd
from scipy import sparse

from segkit.customers.features import CustomerData, Outcomes
from segkit.customers.needs import Needs
from segkit.personas.uptake import Cohort

NEEDS = 6
SEGMENTS = ("S01", "S02", "S03", "S04")
USED = 0.6  # of customers use a need before
TAKEN = 0.25  # of the others take it up


def planted_needs() -> Needs:
    """Return six needs of one thing each."""
    ids, even = tuple(f"N{i + 1:02d}" for i in range(NEEDS)), np.ones(NEEDS)
    things = tuple(f"thing {i + 1}" for i in range(NEEDS))
    return Needs(
        ids=ids, names=things, things=things, words=False, need_of=np.arange(NEEDS), spend=even / NEEDS, buyers=even,
        stability=even, weight=even, plane=np.zeros((NEEDS, 2)), agreement=1.0, noise_share=0.0, coverage=1.0,
    )  # fmt: skip


def planted_cohort(
    *, gain: float, seed: int, each: int = 400, horizon_visits: float = 13.0
) -> tuple[Cohort, np.ndarray]:
    """Draw a cohort: taking up N01 adds `gain` to a later horizon's spend in S01; other needs take from each other.

    Returns the cohort, and what taking something up added to each customer's later spend.

    Customers differ in how often they come, and come by chance: whoever came often in one horizon comes less often in
    the next, and what they come to use is seen only when they come.
    """
    rng = np.random.default_rng(seed)
    customers = each * len(SEGMENTS)
    segment = np.repeat(SEGMENTS, each)
    rate = rng.gamma(6.0, horizon_visits / 6.0, customers)
    paid = rng.gamma(20.0, 20.0 / 20.0, customers)  # a visit
    uses = rng.random((customers, NEEDS)) < USED
    uses[~uses.any(axis=1), -1] = True
    takes = ~uses & (rng.random((customers, NEEDS)) < TAKEN)
    truly = (segment == SEGMENTS[0]) & takes[:, 0]
    added = truly[:, None] & (np.arange(NEEDS) == 0)
    spent = []
    for horizons, after in ((2.0, 0.0), (1.0, 0.5), (1.0, 1.0)):  # it begins in the middle of the window
        visits = rng.poisson(rate * horizons)
        total = visits * paid * rng.gamma(30.0, 1 / 30.0, customers)
        mix = rng.gamma(4.0 * uses + 4.0 * after * (takes & ~added) + 1e-9)
        amounts = total[:, None] * mix / np.maximum(mix.sum(axis=1, keepdims=True), 1e-12)
        more = truly * gain * after * visits / (rate * horizons)
        amounts[:, 0] += more
        spent.append((visits, amounts))
    index = pd.Index([f"C{i:05d}" for i in range(customers)], name="customer_id")
    names = planted_needs().things
    visits, amounts = spent[0]
    features = pd.DataFrame({"active_days": visits, "orders": visits, "spend": amounts.sum(axis=1)}, index=index)
    totals = [
        pd.DataFrame({"spend": a.sum(axis=1), "orders": v, "active_days": v}, index=index).astype(float)
        for v, a in spent[1:]
    ]
    outcomes = [Outcomes(t, sparse.csr_array(a), names) for t, (_, a) in zip(totals, spent[1:], strict=True)]
    data = CustomerData(features.astype(float), sparse.csr_array(amounts), names)
    return Cohort(data, *outcomes, segment=segment, level=np.full(customers, "M1"), rate=0.5, unit="spend"), more
