"""Steps to a purchase: found where nearly all days nest, and counted a day and customer once."""

from collections.abc import Callable
from datetime import date, timedelta

import pytest

from segkit.customers.steps import steps
from segkit.tables import check

KINDS = {"visit": "customer", "cart": "customer", "purchase": "customer", "support": "customer", "mail": "company"}
START = date(2024, 1, 1)


def events(*, carts: int, purchases: int) -> list[tuple]:
    """Ten customers with a visit a day for ten days; some days go on to a cart, and some of those to a purchase."""
    rows = []
    for number in range(100):
        who, day = f"c{number % 10}", str(START + timedelta(number // 10))
        kinds = ["visit", "visit", *["cart"] * (number < carts), *["purchase"] * (number < purchases)]
        rows += [(who, day, kind, None, None) for kind in [*kinds, *(["support"] if number % 7 == 0 else [])]]
    return rows


@pytest.mark.parametrize(
    ("carts", "purchases", "found"),
    [(40, 10, ["visit", "cart", "purchase"]), (10, 10, ["visit", "purchase"]), (40, 0, [])],
)
def test_each_step_is_a_part_of_the_one_before(
    make_days: Callable, carts: int, purchases: int, found: list[str]
) -> None:
    days = make_days(events(carts=carts, purchases=purchases), kinds=KINDS)
    table = steps(days, kinds=KINDS, start=START, end=START + timedelta(10))
    assert table["event"].tolist() == found
    if found:
        check(table, name="steps")
        assert table["days"].iloc[0] == 100 and table["days"].iloc[-1] == purchases
        assert table["share"].iloc[-1] == purchases / 100 and table["onward"].isna().tolist()[-1]


def test_where_nothing_is_bought_steps_lead_to_what_has_most_before_it(make_days: Callable) -> None:
    kinds = {"open": "customer", "search": "customer", "export": "customer", "support": "customer"}
    named = {"visit": "open", "cart": "search", "purchase": "export"}
    rows = [(who, day, named.get(kind, kind), *more) for who, day, kind, *more in events(carts=40, purchases=10)]
    table = steps(make_days(rows, kinds=kinds), kinds=kinds, start=START, end=START + timedelta(10))
    assert table["event"].tolist() == ["open", "search", "export"]
