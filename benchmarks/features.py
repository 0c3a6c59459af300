"""Features from raw events: ours compared with a scan, a bare group-by of baskets, and pandas, vectorised and naive.

usage: python benchmarks/features.py [--rows 1e6,1e7,5e7] [--folder DIR] [--skip pandas,naive]

Each figure is one process of its own: CPU-seconds (all threads, after the imports), seconds on the clock, peak memory.
The data are made by ../shared/bench/generate_transactions.py; where it is missing, the script says so and ends.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from importlib import import_module
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]
GENERATOR = HOME.parent / "shared" / "bench" / "generate_transactions.py"
AS_OF, SPAN_DAYS = date(2025, 6, 24), 540  # the day after the last, and all days there are
DAYS = {"lookback_days": SPAN_DAYS, "horizon_days": 1}
KINDS = {"purchase": "customer"}
PANDAS_MOST, NAIVE_MOST = 10_000_000, 1_000_000  # rows; beyond these it takes too much memory, or too long
MEMORY = "set memory_limit = '1500MB'"  # of DuckDB; what does not fit goes to disk, so that any laptop can do it
STEPS = ("scan", "baskets", "ours", "kept", "month", "pandas", "naive", "live")
SINCE = date(2025, 5, 24)  # the last month begins
IMPORTS = {  # before the clock starts
    "ours": ("ibis.backends.duckdb", "segkit.customers.features", "segkit.data.sources"),
    "kept": ("ibis.backends.duckdb", "segkit.customers.described", "segkit.data.sources", "segkit.data.runs"),
    "month": ("ibis.backends.duckdb", "segkit.customers.described", "segkit.data.sources", "segkit.data.runs"),
    "live": ("segkit.live.since", "duckdb"),
    "pandas": ("pandas", "pyarrow.parquet"),
    "naive": ("pandas", "pyarrow.parquet"),
}


def scan(path: str) -> int:
    """Read every column once."""
    import duckdb

    numbers = ", ".join(f"sum({c})" for c in ("customer_id", "epoch(ts)", "amount", "quantity"))
    words = ", ".join(f"max(length({c}))" for c in ("category", "channel"))
    return int(duckdb.connect().execute(f"select {numbers}, {words} from '{path}'").fetchall()[0][0])


def baskets(path: str) -> int:
    """The bare group-by: one row per customer and basket."""
    import duckdb

    sql = f"create table b as select customer_id, ts, count(*) n, sum(amount) a from '{path}' group by all"
    con = duckdb.connect()
    con.execute(sql).fetchall()
    return con.execute("select count(*) from b").fetchall()[0][0]


def kept(path: str) -> int:
    """Days with their orders, categories and channels, kept as a run keeps them, and every feature on the way."""
    from segkit.customers.described import describe_customers
    from segkit.data.runs import open_run
    from segkit.data.sources import connect

    con = connect()
    con.raw_sql(MEMORY)
    with tempfile.TemporaryDirectory(dir=Path(path).parent) as folder:
        run = open_run(Path(folder) / "run", step="01_profile", source=path, as_of=AS_OF.isoformat(), **DAYS)
        return len(describe_customers(_events(con, path), run=run, kinds=KINDS).data.features.columns)


def _days_before(path: str) -> None:
    """Keep the days before the last month, before the clock starts."""
    from segkit.customers.sorted_days import write_sorted_days
    from segkit.data.runs import open_run
    from segkit.data.sources import connect

    con = connect()
    con.raw_sql(MEMORY)
    events = _events(con, path)
    folder = Path(path).parent / "month"
    shutil.rmtree(folder, ignore_errors=True)
    run = open_run(folder / "before", step="01_profile", source=path, as_of=SINCE.isoformat(), **DAYS)
    write_sorted_days(run, events.filter(events.day < SINCE), kinds=KINDS)


def month(path: str) -> int:
    """Compare the history with the days of the run before, and add the last month to them; lines added."""
    from segkit.customers.added_days import extend_days, reason_to_rebuild
    from segkit.data.runs import load_run, open_run
    from segkit.data.sources import connect

    con = connect()
    con.raw_sql(MEMORY)
    events, previous = _events(con, path), load_run(Path(path).parent / "month" / "before")
    folder = Path(path).parent / "month" / "after"
    run = open_run(folder, step="01_profile", source=path, as_of=AS_OF.isoformat(), **DAYS)
    assert not reason_to_rebuild(events, previous=previous, since=SINCE, kinds=KINDS)
    extend_days(run, events, previous=previous, since=SINCE, kinds=KINDS)
    days = run.scan("days")
    return int(days.filter(days.until >= SINCE).lines.sum().to_pandas())


def ours(path: str) -> int:
    """Every feature of every customer, and nothing kept."""
    from segkit.customers.days import build_days
    from segkit.customers.features import customer_features
    from segkit.data.sources import connect
    from segkit.period import Period

    con = connect()
    con.raw_sql(MEMORY)
    days = build_days(_events(con, path), kinds=KINDS, aggregate=False)
    return len(customer_features(days, period=Period(AS_OF, **DAYS), kinds=KINDS).columns)


def _events(con: object, path: str) -> object:
    """The file as the contract has it: a basket is what a customer paid for in one moment."""
    import ibis

    raw = con.read_parquet(path)
    return raw.select(
        "customer_id",
        "category",
        "channel",
        "amount",
        "quantity",
        day=raw.ts.date(),
        hour=raw.ts.hour(),
        event=ibis.literal("purchase"),
        order_id=raw.ts.epoch_seconds(),
    )


def pandas(path: str) -> int:
    """The same features, vectorised."""
    import numpy as np
    import pandas as pd

    df = pd.read_parquet(path)
    day = df["ts"].dt.floor("D")
    who = ["customer_id", "ts"]
    orders = df.groupby(who, sort=False).agg(
        amount=("amount", "sum"), lines=("amount", "size"), units=("quantity", "sum")
    )
    orders = orders.reset_index()
    orders["day"], hour = orders["ts"].dt.floor("D"), orders["ts"].dt.hour
    recent = pd.Timestamp(AS_OF) - pd.Timedelta(days=SPAN_DAYS // 3)
    orders["recent"] = orders["day"] >= recent
    orders["squared"] = orders["amount"] ** 2
    orders["recent_amount"] = orders["amount"].where(orders["recent"], 0.0)
    for number in range(7):
        orders[f"weekday_{number}"] = orders["day"].dt.dayofweek == number
    for name, (start, end) in {"night": (0, 6), "morning": (6, 12), "afternoon": (12, 18), "evening": (18, 24)}.items():
        orders[name] = (hour >= start) & (hour < end)
    a = orders.drop(columns=["ts", "day"]).groupby("customer_id").sum()
    a["orders"] = orders.groupby("customer_id").size()
    active = orders[["customer_id", "day", "recent"]].drop_duplicates(["customer_id", "day"])
    active = active.sort_values(["customer_id", "day"])
    gap = active.groupby("customer_id")["day"].diff().dt.days
    active = active.assign(gap=gap, gap_squared=gap**2)
    b = active.groupby("customer_id").agg(
        active_days=("day", "size"),
        recent_days=("recent", "sum"),
        first=("day", "min"),
        last=("day", "max"),
        gap_squared=("gap_squared", "sum"),
        longest_gap=("gap", "max"),
    )
    bought = df.groupby(["customer_id", "category"], sort=False)["amount"].sum()
    share = bought / bought.groupby("customer_id").transform("sum")
    c = pd.DataFrame({"n": bought.groupby("customer_id").size(), "top": share.groupby("customer_id").max()})
    c["entropy"] = (-share * np.log(share)).groupby("customer_id").sum()
    channels = df.groupby(["customer_id", "channel"]).size().unstack(fill_value=0)
    assert len(day) == len(df)
    return len(_pandas_features(a.join(b).join(c), channels).columns)


def _pandas_features(a: object, channels: object) -> object:
    """Arithmetic on columns: what the formulas of segkit say, written once more."""
    import numpy as np
    import pandas as pd

    silent, span = (pd.Timestamp(AS_OF) - a["last"]).dt.days, (a["last"] - a["first"]).dt.days
    gap = (span / (a["active_days"] - 1)).where(a["active_days"] > 1, SPAN_DAYS)
    late, early = SPAN_DAYS // 3, SPAN_DAYS - SPAN_DAYS // 3
    f = pd.DataFrame(
        {"recency_days": silent, "orders": a["orders"], "spend": a["amount"], "active_days": a["active_days"]}
    )
    f["gap_days"], f["longest_gap_days"], f["overdue"] = gap, a["longest_gap"].fillna(0), silent / gap
    spread = (a["gap_squared"] / (a["active_days"] - 1) - gap**2).clip(lower=0) ** 0.5
    f["gap_variation"] = (spread / gap).where(a["active_days"] > 1, 0)
    f["age_days"] = (pd.Timestamp(AS_OF) - a["first"]).dt.days
    for name, now, whole in (("activity", "recent_days", "active_days"), ("orders", "recent", "orders")):
        x, y = a[now] / late, (a[whole] - a[now]) / early
        f[f"{name}_trend"] = (x - y) / (x + y + 1 / SPAN_DAYS)
    x, y = a["recent_amount"] / late, (a["amount"] - a["recent_amount"]) / early
    f["spend_trend"], f["orders_recent"], f["spend_recent"] = (x - y) / (x + y), a["recent"], a["recent_amount"]
    now, before = a["recent_days"] > 0, a["recent_days"] < a["active_days"]
    f["new"], f["returned"] = f["age_days"] <= late, (f["age_days"] > late) & now & ~before
    f["active"], f["cooling"], f["lapsed"] = now & before & (f["overdue"] <= 2), now & before & (f["overdue"] > 2), ~now
    f["order_value"], f["lines_per_order"] = a["amount"] / a["orders"], a["lines"] / a["orders"]
    f["order_variation"] = (
        np.sqrt((a["squared"] / a["orders"] - f["order_value"] ** 2).clip(lower=0)) / f["order_value"]
    )
    f["items_per_line"], f["line_value"] = a["units"] / a["lines"], a["amount"] / a["lines"]
    for name in ("night", "morning", "afternoon", "evening", *(f"weekday_{number}" for number in range(7))):
        f[f"{name}_share"] = a[name] / a["orders"]
    f["weekend_share"] = f["weekday_5_share"] + f["weekday_6_share"]
    f["categories"], f["category_entropy"], f["top_category_share"] = a["n"], a["entropy"], a["top"]
    return f.join(channels.div(channels.sum(axis=1), axis=0).add_prefix("channel_"))


def naive(path: str) -> int:
    """Features as most published notebooks write them (the lines of naive_pipeline.py): lambdas, pivots, crosstabs."""
    import numpy as np
    import pandas as pd

    df = pd.read_parquet(path)
    snapshot = df["ts"].max() + pd.Timedelta(days=1)
    f = df.groupby("customer_id").agg(
        recency=("ts", lambda x: (snapshot - x.max()).days),
        frequency=("ts", "nunique"),
        monetary=("amount", "sum"),
        tenure=("ts", lambda x: (x.max() - x.min()).days),
    )
    b = df.groupby(["customer_id", "ts"]).agg(value=("amount", "sum"), size=("amount", "count")).reset_index()
    g = b.groupby("customer_id")
    f["basket_mean"], f["basket_std"] = g["value"].mean(), g["value"].std()
    f["gap_mean"] = g["ts"].apply(lambda x: x.sort_values().diff().dt.days.mean())
    f["gap_std"] = g["ts"].apply(lambda x: x.sort_values().diff().dt.days.std())
    piv = df.pivot_table(index="customer_id", columns="category", values="amount", aggfunc="sum", fill_value=0)
    shares = piv.div(piv.sum(axis=1).replace(0, 1), axis=0)
    f["entropy"] = shares.apply(lambda r: -sum(p * np.log(p) for p in r if p > 0), axis=1)
    f = f.join(shares.iloc[:, :12].add_prefix("share_"))
    f = f.join(pd.crosstab(b["customer_id"], b["ts"].dt.hour // 6, normalize="index"))
    f = f.join(pd.crosstab(b["customer_id"], b["ts"].dt.dayofweek, normalize="index").add_prefix("wd_"))
    return len(f.columns)


def live(path: str) -> int:
    """Events in commits of 500, all features after each: events per second of CPU on one core (the first 100,000)."""
    import duckdb
    import numpy as np

    from segkit.live.customer import Since, make_feature_plan
    from segkit.live.kernel import Kernel, Stands, entries_of
    from segkit.live.since import START

    sql = f"select customer_id, ts, amount, quantity, category, channel from '{path}' limit 100000"
    names = ("customer_id", "timestamp", "amount", "quantity", "category", "channel")
    events = [dict(zip(names, row, strict=True)) for row in duckdb.connect().execute(sql).fetchall()]
    for event in events:
        event["order_id"] = str(event["timestamp"])
    plan = make_feature_plan((*names, "order_id"), kinds=KINDS, channels=("app", "phone", "store", "web"))
    kernel, customers = Kernel(plan), {}
    start = time.process_time()
    for first in range(0, len(events), 500):
        parts = []
        for event in events[first : first + 500]:
            since = customers.setdefault(event["customer_id"], Since())
            since.add(event, plan=plan, categories=kernel.categories)
            parts.append((since, START, since.mark()))
        today = np.array([mark.last_day for _, _, mark in parts])
        first_ever = np.array([mark.first_ever for _, _, mark in parts])
        kernel.features(Stands(np.full(len(parts), -1), today, first_ever, entries_of(parts)))
    return int(len(events) / (time.process_time() - start))


RUN: dict[str, Callable[[str], int]] = {name: globals()[name] for name in STEPS}


def measured(step: str, *, path: Path) -> dict[str, float]:
    """One step in a process of its own."""
    run = [sys.executable, __file__, "--step", step, "--path", str(path)]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1][:80]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def report(step: str, *, path: str) -> None:
    """Run a step here and print what it took."""
    for module in IMPORTS.get(step, ("duckdb",)):
        import_module(module)
    if step == "month":
        _days_before(path)
    clock, cpu = time.perf_counter(), time.process_time()
    found = RUN[step](path)
    took = {"cpu": time.process_time() - cpu, "clock": time.perf_counter() - clock, "found": found}
    took["gigabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps(took))


def main() -> None:
    """Make the data, run the steps, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="1e6,1e7", help="row counts")
    parser.add_argument("--lines-per-customer", type=float, default=100, help="rows divided by customers")
    parser.add_argument("--folder", default=None, help="where the data are kept; by default a folder that goes again")
    parser.add_argument("--skip", default="", help="steps to leave out")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.step:
        report(asked.step, path=asked.path)
        return
    if not GENERATOR.is_file():
        print(f"skipped: {GENERATOR.relative_to(HOME.parent)} is not there, and it makes the data.")
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(asked.folder or scratch)
        folder.mkdir(parents=True, exist_ok=True)
        print("| rows | step | CPU s | times the basket group-by | clock s | peak GB | |")
        print("|---|---|---|---|---|---|---|")
        for rows in (int(float(part)) for part in asked.rows.split(",")):
            one_size(rows, folder=folder, customers=int(rows / asked.lines_per_customer), skip=asked.skip.split(","))


def one_size(rows: int, *, folder: Path, customers: int, skip: list[str]) -> None:
    """The lines of the table for one size."""
    path = folder / f"events_{rows}.parquet"
    if not path.is_file():
        subprocess.run([sys.executable, GENERATOR, str(rows), str(customers), path], check=True, capture_output=True)
    floor = None
    for step in STEPS:
        too_large = (step == "pandas" and rows > PANDAS_MOST) or (step == "naive" and rows > NAIVE_MOST)
        if step in skip or too_large:
            continue
        took = measured(step, path=path)
        if "failed" in took:
            print(f"| {rows:,} | {step} | failed: {took['failed']} | | | | |", flush=True)
            continue
        floor = took["cpu"] if step == "baskets" else floor
        against = f"{took['cpu'] / floor:.1f}" if floor and step not in ("live", "scan") else ""
        counted = {"live": "events a second", "month": "lines", "scan": "", "baskets": ""}.get(step, "features")
        note = f"{took['found']:,} {counted}" if counted else ""
        cells = f"{took['cpu']:.2f} | {against} | {took['clock']:.1f} | {took['gigabytes']:.2f} | {note}"
        print(f"| {rows:,} | {step} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
