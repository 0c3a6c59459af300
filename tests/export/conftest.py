"""A run of 65 customers in three segments, whose source has addresses and consent."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segkit.data.runs import open_run

SOURCE = """\
name: shop
timezone: UTC
currency: EUR
kinds: {purchase: customer}
events:
  - path: lines.csv
    columns: {customer_id: who, timestamp: when}
customers:
  path: people.csv
  columns: {customer_id: id, mail_address: mail, mobile: mobile, opted_in: ok}
  roles: {mail_address: identifier, mobile: identifier, opted_in: consent}
"""
WITHOUT_CONSENT = SOURCE.replace(", opted_in: ok}", "}").replace(", opted_in: consent}", "}")
WITHOUT_ADDRESS = SOURCE.replace("mail_address: mail, mobile: mobile, ", "").replace(
    "mail_address: identifier, mobile: identifier, ", ""
)
SEGMENTS = pd.DataFrame({"segment": ["S01", "S02", "S03"], "name": ['=Big, "bold"', "Line\nbreak", "Tiny"]})


def make_predictions(ids: list[str]) -> pd.DataFrame:
    """What is expected of each customer; the first one has no date of the next order."""
    amounts = {"active_chance": 0.9, "orders": 3.0, "orders_low": 1.0, "orders_high": 6.0, "move_chance": 0.1}
    spend = {"spend_median": 40.0, "spend_mean": 41.2345, "spend_low": 0.0, "spend_high": 99.999, "value_12m": 160.0}
    nothing = {"next_category": None, "next_category_chance": np.nan}
    dates = {"date": "2024-06-05", "low": "2024-06-02", "high": "2024-06-11"}
    table = pd.DataFrame({"customer_id": ids}).assign(**amounts, **spend, **nothing)
    for name, day in dates.items():
        table[f"next_order_{name}"] = pd.to_datetime([pd.NaT, *[day] * (len(ids) - 1)])
    return table.assign(next_order_reason=["may not order", *[""] * (len(ids) - 1)])


@pytest.fixture
def people() -> pd.DataFrame:
    """The customer table; 65 customers of the run, and one who is not in it."""
    number = np.arange(66)
    return pd.DataFrame(
        {
            "id": [f"c{i:02d}" for i in number],
            "mail": [f" Ann.{i:02d}@Example.com" for i in number],
            "mobile": [f"+49 (0)151 123456{i:02d}" for i in number],
            "ok": "yes",
        }
    )


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a run, and the source it was made from."""

    def make(people: pd.DataFrame, *, name: str = "run", source: str = SOURCE, moved: int = 0, less: int = 0) -> Path:
        folder = tmp_path / "source"
        folder.mkdir(exist_ok=True)
        pd.DataFrame({"who": people["id"], "when": "2024-01-01"}).to_csv(folder / "lines.csv", index=False)
        people.to_csv(folder / "people.csv", index=False)
        (folder / "shop.yaml").write_text(source, encoding="utf-8")
        ids = [f"c{i:02d}" for i in range(65 - less)]
        of = np.array(["S01"] * 30 + ["S02"] * 30 + ["S03"] * 5)[: len(ids)]
        of[:moved] = "S02"
        about = {"as_of": "2024-06-01", "lookback_days": 182, "horizon_days": 91}
        run = open_run(tmp_path / name, step="03_segments", source=str(folder / "shop.yaml"), **about)
        fixed = {"macro_segment": "M1", "need": "N01", "confidence": 0.75, "core": True, "x": 0.0, "y": 0.0}
        run.write(pd.DataFrame({"customer_id": ids, "segment": of}).assign(**fixed), "assignments")
        zero = {"customer_share": 0.1, "revenue": 1.0, "revenue_share": 0.1, "margin": np.nan, "orders": 1}
        ranged = {
            f"{n}{p}": np.nan for n in ("stability", "active_share_next", "spend_next") for p in ("", "_low", "_high")
        }
        words = {
            "verdict": "natural",
            "need": "N01",
            "need_name": "bread",
            "action": "offer bread",
            "spend_now": np.nan,
        }
        run.write(make_predictions(ids), "predictions")
        run.write(SEGMENTS.assign(macro_segment="M1", level="Top", customers=30, **zero, **ranged, **words), "segments")
        return run.path

    return make
