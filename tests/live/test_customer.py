"""One live customer: bad input is refused or does no harm; time passes without events; nobody else matters."""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pandas as pd
import pytest

from segkit.errors import InputError
from segkit.live import customer as live_customer
from segkit.live.customer import make_feature_plan, money_units
from tests.live.live_runs import Customers

KINDS = {"purchase": "customer", "return": "customer", "mail": "company"}
COLUMNS = ("event_id", "order_id", "category", "channel", "amount", "discount", "quantity", "private_label")
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


class One(Customers):
    """One customer."""

    def features(self) -> dict[str, float]:
        found = super().features()
        return found.loc["one"].to_dict() if len(found) else {}


def customer(*, timezone: str = "UTC", lookback_days: int = 60) -> One:
    shared = make_feature_plan(COLUMNS, kinds=KINDS, timezone=timezone, lookback_days=lookback_days, channels=("web",))
    return One(shared)


def bought(amount: object = 1.0, *, at: object = NOON, **more: object) -> dict[str, object]:
    return {"timestamp": at, "event": "purchase", "amount": amount, **more}


def test_silence_changes_recency_without_an_event() -> None:
    one = customer()
    one.add(bought())
    assert one.features()["recency_days"] == 1
    one.tick(NOON + timedelta(days=10))
    assert one.features()["recency_days"] == 11
    one.tick(NOON)  # time does not go back
    assert one.features()["recency_days"] == 11


def test_what_falls_out_of_the_lookback_is_gone_and_the_customer_with_it() -> None:
    one = customer(lookback_days=30)
    one.add(bought(5.0, category="tea", channel="web"))
    one.add(bought(7.0, at=NOON + timedelta(days=20), category="bread"))
    one.tick(NOON + timedelta(days=35))
    found = one.features()
    assert (found["spend"], found["categories"], found["orders"]) == (7.0, 1.0, 1.0)
    assert (found["age_days"], found["channel_web_share"]) == (36, 0.0)
    one.tick(NOON + timedelta(days=60))
    assert one.features() == {}
    one.add(bought(1.0, at=NOON + timedelta(days=61)))
    assert one.features()["spend"] == 1.0 and one.features()["stage_returned"] == 1.0


def test_an_event_older_than_the_state_only_makes_the_customer_older() -> None:
    one = customer()
    one.add(bought())
    one.add(bought(100.0, at=NOON - timedelta(days=400)))
    assert (one.features()["spend"], one.features()["age_days"]) == (1.0, 401)


def test_an_earlier_line_moves_its_order() -> None:
    one = customer()
    one.add(bought(1.0, at="2024-05-02T00:10:00", order_id="1"))
    one.add(bought(2.0, at="2024-05-01T23:50:00", order_id="1"))
    found = one.features()
    assert (found["orders"], found["active_days"], found["recency_days"], found["wednesday_share"]) == (1, 1, 2, 1)


def test_local_days_change_with_daylight_saving() -> None:
    one = customer(timezone="America/New_York")
    one.add(bought(at="2024-03-10T04:30:00+00:00"))  # half past eleven the evening before
    one.add(bought(at="2024-03-11T03:30:00+00:00"))  # the same, an hour later by the sun
    found = one.features()
    assert (found["active_days"], found["saturday_share"], found["sunday_share"]) == (2, 0.5, 0.5)


def test_a_leap_day_is_a_day() -> None:
    one = customer()
    for day in ("2024-02-28", "2024-02-29", "2024-03-01"):
        one.add(bought(at=f"{day}T09:00:00"))
    assert (one.features()["gap_days"], one.features()["gap_variation"]) == (1.0, 0.0)


def test_one_event_and_zero_amounts_give_numbers() -> None:
    one = customer()
    one.add(bought(0, discount=0, quantity=0, category="tea", private_label=False))
    found = one.features()
    assert all(value == value and abs(value) < 1e6 for value in found.values())
    assert (found["spend"], found["categories"], found["category_entropy"]) == (0, 0, 0)


def test_events_of_the_company_alone_make_no_customer_active() -> None:
    one = customer()
    one.add({"timestamp": NOON, "event": "mail"})
    assert one.features() == {}


def test_ten_thousand_categories_with_quotes_and_unicode() -> None:
    one = customer()
    for i in range(10_000):
        one.add(bought(Decimal("0.01"), category=f'l\'œuf "{i}" 汤'))
    assert one.features()["categories"] == 10_000 and one.features()["spend"] == 100.0


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({"timestamp": NOON, "event": "buy"}, "unknown kind 'buy'. The source names mail, purchase, return"),
        ({"event": "purchase"}, "its time or a number cannot be read"),
        (bought(at="yesterday"), "its time or a number cannot be read"),
        (bought(float("nan")), "nan is not an amount"),
        (bought(-1), "-1 is not an amount"),
        (bought("ten"), "its time or a number cannot be read"),
    ],
)
def test_what_cannot_be_read_is_refused_and_changes_nothing(event: dict[str, object], words: str) -> None:
    one = customer()
    one.add(bought())
    before = one.features()
    with pytest.raises(InputError, match=words):
        one.add(event)
    assert one.features() == before


def test_amounts_are_read_exactly_from_every_type() -> None:
    assert [money_units(v) for v in (None, 1, 0.1, "12.5", Decimal("0.0001"))] == [0, 10_000, 1_000, 125_000, 1]


def test_features_do_not_depend_on_who_else_is_computed_nor_on_what_was_added_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draw, shared = random.Random(1), make_feature_plan(COLUMNS, kinds=KINDS, lookback_days=60, channels=("web",))
    together, alone = Customers(shared), {f"c{n}": Customers(shared) for n in range(40)}
    monkeypatch.setattr(live_customer, "COMPACT_AFTER", 20)
    for i in range(1_500):
        who, hours = f"c{int(40 * draw.random() ** 3)}", draw.randrange(24 * 90)
        more = {
            "order_id": f"{who}-{i // 5}",
            "category": f"t{draw.randrange(30)}",
            "channel": draw.choice(["web", "app"]),
        }
        event = bought(draw.lognormvariate(3, 2), at=NOON + timedelta(hours=hours), **more)
        for customers in (together, alone[who]):
            customers.add(event, who=who)
        if i % 50 == 0:
            alone[who].compact()
    for customers in (together, *alone.values()):
        customers.tick(NOON + timedelta(days=80))
    pd.testing.assert_frame_equal(
        together.features(), pd.concat([each.features() for each in alone.values()]).sort_index(), check_exact=True
    )


def test_amounts_as_large_as_the_contract_allows_give_numbers() -> None:
    one = customer()
    for i in range(300):
        one.add(bought(9_999_999_999.9999, order_id=f"{i // 150}", category="tea"))
    found = one.features()
    assert found["spend"] == pytest.approx(300e10) and all(abs(value) < 1e14 for value in found.values())
