"""Why revenue moved: the parts are right by hand, add up exactly over random customers, and show no small group."""

from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from segkit.customers.days import Days
from segkit.period import Period
from segkit.refresh.revenue import revenue_change, shown_parts
from segkit.reports.revenue import describe_revenue, format_revenue
from segkit.reports.wording import Wording
from segkit.tables import check

KINDS = {"purchase": "customer"}
PERIOD = Period.parse("2024-07-01", lookback_days=182, horizon_days=91)
BEFORE, AFTER = "2024-02-05", "2024-05-06"
AMOUNTS = ["before", "after", "change", "from_customers", "from_orders", "from_value"]


def _bought(who: str, day: str, amount: float | None) -> tuple:
    return (who, day, "purchase", amount, None)


def _history(who: str = "old") -> tuple:
    return _bought(who, "2023-12-01", 1.0)


def test_the_change_is_split_as_by_hand(make_days: Callable[..., Days]) -> None:
    events = [_history(), _bought("kept", BEFORE, 10.0), _bought("lost", BEFORE, 5.0), _bought("kept", AFTER, 18.0)]
    events += [_bought("new", AFTER, 4.0), _bought("old", AFTER, 8.0)]
    segment = pd.Series({"kept": "S01", "new": "S01", "lost": "S02"})
    table = revenue_change(make_days(events, kinds=KINDS), period=PERIOD, segment=segment)
    check(table, name="revenue_change")
    rows = table.set_index("item")
    # two customers at 7.50 became three at 10.00: by customers (7.5 + 10) / 2, by value (2 + 3) / 2 * 2.5
    assert rows.loc["", AMOUNTS].tolist() == [15.0, 30.0, 15.0, 8.75, 0.0, 6.25]
    changes = {"kept": 8.0, "lost": -5.0, "new": 4.0, "returned": 8.0, "S01": 12.0, "S02": -5.0, "other": 8.0}
    assert rows["change"].drop("").to_dict() == changes


def test_parts_add_up_to_the_cent(make_days: Callable[..., Days]) -> None:
    rng = np.random.default_rng(3)
    events, start = [_history()], pd.Timestamp(PERIOD.as_of - timedelta(days=182))
    for day, who, amount in zip(
        rng.integers(0, 182, 900), rng.integers(0, 160, 900), rng.gamma(2, 7, 900), strict=True
    ):
        events.append(_bought(f"c{who:03d}", str((start + pd.Timedelta(days=int(day))).date()), round(amount, 4)))
    segment = pd.Series({f"c{who:03d}": f"S{who % 7 + 1:02d}" for who in range(150)})
    table = revenue_change(make_days(events, kinds=KINDS), period=PERIOD, segment=segment)
    whole = table[table["part"] == "all"].iloc[0]
    for shown in (table, shown_parts(table, segments=pd.DataFrame({"segment": ["S01"], "customers": [150]}))):
        for part in ("customers", "segment"):
            sums = shown[shown["part"] == part][["before", "after", "change"]].sum().round(2)
            assert sums.empty or sums.tolist() == [0, 0, 0] or sums.tolist() == whole[list(sums.index)].tolist()
    known = table.dropna(subset=["from_value"])
    split = known[["from_customers", "from_orders", "from_value"]].sum(axis=1).round(2)
    assert split.tolist() == known["change"].tolist() and len(known) >= 9


@pytest.mark.parametrize("returned", [3, 25])
def test_no_small_group_is_shown_nor_found_by_subtraction(make_days: Callable[..., Days], returned: int) -> None:
    events = [_bought(f"k{n}", day, 10.0) for n in range(60) for day in (BEFORE, AFTER)]
    events += [_bought(f"n{n}", AFTER, 5.0) for n in range(40)] + [_bought(f"l{n}", BEFORE, 7.0) for n in range(30)]
    events += [_bought(f"r{n}", day, 9.0) for n in range(returned) for day in ("2023-12-01", AFTER)]
    segment = (
        {f"k{n}": "S01" for n in range(60)} | {f"n{n}": "S02" for n in range(40)} | {f"r{n}": "S03" for n in range(25)}
    )
    days = make_days([_history("k0"), *events], kinds=KINDS)
    table = revenue_change(days, period=PERIOD, segment=pd.Series(segment))
    sizes = pd.DataFrame({"segment": ["S01", "S02", "S03"], "customers": [60, 40, returned]})
    shown = shown_parts(table, segments=sizes)
    states = set(shown.loc[shown["part"] == "customers", "item"])
    assert states == {"kept", "lost", *(("new or returned",) if returned < 20 else ("new", "returned"))}
    own = shown[shown["part"] == "segment"]
    assert ("S03" in set(own["item"])) == (returned >= 20)
    assert not ((own["customers_after"] > 0) & (own["customers_after"] < 20)).any()
    words = Wording(PERIOD, currency="USD")
    sentences = describe_revenue(shown, names={"S01": "Core"}, words=words)
    assert sentences[0].startswith("Revenue of April to June 2024 was $") and "from July" not in sentences[0]
    assert format_revenue(shown, names={"S01": "Core"}, period=PERIOD).iloc[0, 0] == "All customers"


def test_without_money_orders_are_split_and_a_short_history_gives_the_reason(make_days: Callable[..., Days]) -> None:
    events = [_bought("a", BEFORE, 2.0), _bought("a", AFTER, 2.0), _bought("b", "2024-05-07", 2.0)]
    rows = make_days([_history(), *events], kinds=KINDS).rows
    days = Days(rows=rows.drop("amount"), categories=None)
    table = revenue_change(days, period=PERIOD, segment=pd.Series({"a": "S01", "b": "S01"}))
    assert table.loc[0, ["kpi", "change", "from_customers"]].tolist() == ["orders", 1.0, 1.0]
    words = Wording(PERIOD)
    assert describe_revenue(table, names={}, words=words)[0].startswith("Customers placed 2 orders in April to June")
    short = revenue_change(make_days(events, kinds=KINDS), period=PERIOD, segment=pd.Series({"a": "S01"}))
    assert short.empty
    assert describe_revenue(short, names={}, words=words)[0].startswith("There is nothing to compare with")
