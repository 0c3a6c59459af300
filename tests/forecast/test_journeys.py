"""Journeys: an order that was planted is found, and habits, favourites and rhythms alone show nothing."""

from collections.abc import Callable
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest

from segkit.customers.features import Customers, customers_at
from segkit.customers.needs import Needs
from segkit.forecast.journeys import COLUMNS, _without_remainders, find_journeys
from segkit.period import Period
from segkit.reports.journeys import describe_journeys, format_journeys, journeys_to_show, plot_journeys

AS_OF = date(2024, 7, 1)
KINDS = {"purchase": "customer", "support_call": "customer", "letter": "company"}
THINGS = ("tea", "cake", "soap", "candle")
PERIOD = Period(AS_OF, lookback_days=182, horizon_days=91)
NAMES = dict(zip(("N01", "N02", "N03", "N04"), ("Tea time", "Baking", "Bathroom", "Evenings"), strict=True))


@pytest.fixture
def needs() -> Needs:
    """A need for each thing."""
    one = np.ones(len(THINGS))
    return Needs(
        ids=tuple(NAMES), names=tuple(NAMES.values()), things=THINGS, words=False, need_of=np.arange(len(THINGS)),
        spend=one / 4, buyers=one, stability=one, weight=one, plane=np.zeros((4, 2)), agreement=1.0, noise_share=0.0,
        coverage=1.0,
    )  # fmt: skip


def _customers(make_days: Callable, events: list[tuple]) -> Customers:
    return customers_at(make_days(events, kinds=KINDS), period=PERIOD, kinds=KINDS)


def _events(*, planted: bool, customers: int = 160, seed: int = 3) -> list[tuple]:
    """Visits once a week, each for a thing by the customer's own taste; soap follows tea, and calls precede the end."""
    rng, events = np.random.default_rng(seed), []
    for number in range(customers):
        taste, leaves, last = rng.dirichlet(np.ones(4)), number % 3 == 0, -1
        weeks = 20 if leaves else 38
        for week in range(weeks):
            day = (AS_OF - timedelta(days=270) + timedelta(days=7 * week)).isoformat()
            thing = int(rng.choice(4, p=taste))
            if planted and last == 0 and rng.random() < 0.6:
                thing = 2
            last = thing
            events.append((f"c{number:03d}", day, "purchase", 10.0, THINGS[thing]))
            if rng.random() < (0.5 if planted and leaves and week == weeks - 1 else 0.08):
                events.append((f"c{number:03d}", day, "support_call", None, None))
            if rng.random() < 0.3:
                events.append((f"c{number:03d}", day, "letter", None, None))
    return events


def _segment(customers: int = 160) -> pd.Series:
    return pd.Series({f"c{i:03d}": "S01" if i % 3 == 0 else "S02" for i in range(customers)})


def test_what_was_planted_is_found(make_days: Callable, needs: Needs) -> None:
    found = find_journeys(_customers(make_days, _events(planted=True)), needs=needs, segment=_segment())
    assert list(found.columns) == COLUMNS and (found["customers"] >= 20).all()
    whole = found[found["segment"] == "all"]
    first = whole[whole["about"] == "next"].iloc[0]
    assert (first["before"], first["after"]) == ("N01", "N03") and first["share_low"] > first["expected"]
    last = whole[(whole["about"] == "leave") & (whole["touch"] == "last")].iloc[0]
    assert last["before"] == "support_call" and last["share"] > 0.35 > 0.2 > last["expected"] and last["of"] == 54
    assert "letter" not in set(found["before"])
    shown = journeys_to_show(found)
    sentences = describe_journeys(found, needs=NAMES)
    assert sentences[0].startswith("After a visit for tea time, the next one for something else is for bathroom in")
    assert any("“Support call” was the last touch for" in one for one in sentences)
    assert plot_journeys(shown, needs=NAMES).axes
    assert "Last: support call" in set(format_journeys(found.assign(segment="S01"), needs=NAMES, names={})["first"])


def test_favourites_alone_show_nothing(make_days: Callable, needs: Needs) -> None:
    """Of five shops without any order, at most one shows a fluke; of 60, two did."""
    shops = [_customers(make_days, _events(planted=False, seed=seed)) for seed in range(100, 105)]
    found = [find_journeys(shop, needs=needs, segment=_segment()) for shop in shops]
    assert sum(len(one) > 0 for one in found) <= 1


def test_no_needs_and_few_customers_show_nothing(make_days: Callable, needs: Needs) -> None:
    few = _events(planted=True, customers=15)
    assert find_journeys(_customers(make_days, few), needs=needs, segment=_segment(15)).empty
    customers = _customers(make_days, _events(planted=True))
    assert set(find_journeys(customers, needs=None, segment=_segment())["before"]) == {"support_call"}


def test_no_small_rest_can_be_computed() -> None:
    row = {"about": "next", "touch": "", "before": "N01", "after": "N02"}
    table = pd.DataFrame([row | {"segment": s, "customers": n} for s, n in (("all", 75), ("S01", 40), ("S02", 25))])
    assert _without_remainders(table)["segment"].tolist() == ["all", "S01"]
    assert _without_remainders(table[table["segment"] != "all"]).empty
