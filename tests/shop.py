"""A small finished run to draw pilots from: three segments of a made-up shop, one of them below the floor."""

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segkit.customers.days import build_days, write_days
from segkit.data import sources
from segkit.data.runs import Run, load_run, open_run

AS_OF = date(2024, 10, 1)
SIZES = {"S01": 120, "S02": 100, "S03": 30}
SOURCE = """\
name: corner_shop
timezone: UTC
kinds: {purchase: customer, coupon_used: customer, mail_sent: company}
events:
  - path: events.csv
    columns: {customer_id: who, timestamp: at, event: kind, order_id: number, amount: paid, campaign: leaflet}
customers:
  path: people.csv
  columns: {customer_id: who, may_mail: may_mail}
  roles: {may_mail: consent}
"""


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the shop: a source of a year, and the finished run of its 1 October; to read only."""
    folder = tmp_path_factory.mktemp("shop")
    rng = np.random.default_rng(5)
    who = [f"{segment.lower()}-{n:03d}" for segment, size in SIZES.items() for n in range(size)]
    rate = rng.lognormal(2.8, 0.5, len(who))
    lines = []
    for customer, orders in zip(who, rng.poisson(rate), strict=True):
        for day in sorted(rng.integers(0, 366, orders)):
            lines.append((customer, date(2024, 1, 1) + timedelta(int(day)), "purchase", rng.lognormal(2, 0.8), None))
        if rng.random() < 0.4 + 0.3 * (orders > 15):
            lines.append((customer, date(2024, 8, 1), "mail_sent", None, "summer"))
            lines += [(customer, date(2024, 8, 9), "coupon_used", None, None)] * int(rng.random() < 0.3)
    events = pd.DataFrame(lines, columns=["who", "at", "kind", "paid", "leaflet"])
    events["number"] = [f"o{i}" if kind == "purchase" else None for i, kind in enumerate(events["kind"])]
    events.round({"paid": 2}).to_csv(folder / "events.csv", index=False)
    consent = ["no" if n % 10 == 9 else "yes" for n in range(len(who))]
    pd.DataFrame({"who": who, "may_mail": consent}).iloc[1:].to_csv(folder / "people.csv", index=False)
    (folder / "source.yaml").write_text(SOURCE, encoding="utf-8")
    _make_run(folder)
    return folder


@pytest.fixture
def shop_run(shop: Path) -> Run:
    """The run of the shop."""
    return load_run(shop / "run")


def _make_run(folder: Path) -> None:
    source = sources.open_source(str(folder / "source.yaml"))
    made_with = {"source": str(folder / "source.yaml"), "data_dir": "", "as_of": AS_OF.isoformat()}
    about = {"source_name": source.name, "source_fingerprint": sources.fingerprint(source), "seed": 7}
    run = open_run(folder / "run", step="03_segments", lookback_days=182, horizon_days=91, **made_with, **about)
    con = sources.connect()
    events = sources.read_events(source, con=con)
    write_days(run, build_days(events.filter(events.day < AS_OF), kinds=source.kinds))
    run.write(sources.read_customers(source, con=con).to_pandas().sort_values("customer_id"), "people")
    who = [(f"{segment.lower()}-{n:03d}", segment) for segment, size in SIZES.items() for n in range(size)]
    assigned = pd.DataFrame(who, columns=["customer_id", "segment"]).sample(frac=1, random_state=1)
    run.write(
        assigned.assign(macro_segment="all", need="N01", confidence=1.0, core=True, x=0.0, y=0.0).reset_index(
            drop=True
        ),
        "assignments",
    )
    run.write(_segments(), "segments")
    run.update(outcome="done")


def _segments() -> pd.DataFrame:
    ranged = ("stability", "active_share_next", "spend_next")
    columns = {f"{name}{end}": 0.5 for name in ranged for end in ("", "_low", "_high")}
    table = pd.DataFrame({"segment": list(SIZES), "name": ["Early", "Late", "Few"], "customers": list(SIZES.values())})
    return table.assign(
        macro_segment="all",
        customer_share=table["customers"] / table["customers"].sum(),
        revenue=1.0,
        revenue_share=1 / 3,
        margin=np.nan,
        orders=1,
        verdict="not tested",
        spend_now=1.0,
        need="N01",
        need_name="bread",
        action="ask",
        **columns,
    )


def predicted_spend(segments: pd.DataFrame, *, each: float | list[float], half: float) -> pd.DataFrame:
    """Return a forecast of spend as in ``predicted_segments``: `each` a customer, give or take `half`."""
    table = segments[["segment", "customers"]].assign(mean=each)
    total = {"segment": "all", "customers": table["customers"].sum()}
    total["mean"] = (table["mean"] * table["customers"]).sum() / total["customers"]
    table = pd.concat([pd.DataFrame([total]), table], ignore_index=True)
    columns = {"spend": table["mean"], "spend_low": table["mean"] - half, "spend_high": table["mean"] + half}
    return table[["segment", "customers"]].assign(**{n: mean * table["customers"] for n, mean in columns.items()})
