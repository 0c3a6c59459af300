"""Assign customers from ready features in three ways, compared with KMeans.predict: CPU-seconds and ratios.

usage: python benchmarks/place.py [--customers 2000000] [--bought 10] [--features 29] [--axes 14] [--batch 100000]
                                 [--spark local[2]]
Customers and the model are random: 300 categories, 16 segments, 10 bags of 40 centres. Features and
weights lie in a DuckDB file, sorted by customer as a run keeps them; the result is written to a table of it.
"""

import argparse
import os
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.cluster import KMeans

from segkit.customers.anticipation import Space
from segkit.customers.features import CustomerData
from segkit.segments.model import Assigner, SegmentModel, assign_segments
from segkit.segments.sql import assign_in_engine, assignment_sql
from segkit.vocabulary import FEATURES

CATEGORIES, SEGMENTS, BAGS, BAG_CENTRES = 300, 16, 10, 16
BORDERS = (-1.0, 0.0, 1.5)  # of levels on the first axis
SINGLE = 2000  # customers placed one by one


def cpu(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU-seconds of all threads and children, and the result."""
    before = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    found = work()
    after = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    spent = sum(b.ru_utime + b.ru_stime - a.ru_utime - a.ru_stime for a, b in zip(before, after, strict=True))
    return spent, found


def made_model(axes: int, *, features: int = 29, seed: int = 7) -> SegmentModel:
    rng = np.random.default_rng(seed)
    names = tuple(f.name for f in FEATURES if f.in_space)[:features]
    names += tuple(f"channel_x{i}_share" for i in range(features - len(names)))
    space = Space(
        features=names, mean=np.full(len(names), 1.0), scale=np.full(len(names), 0.7),
        terms=tuple(f"cat {i}" for i in range(CATEGORIES)), words=False, needs=(), outcome_names=(),
        behaviour_outcomes=rng.normal(size=(len(names), axes)), log_outcomes=rng.normal(size=(CATEGORIES, axes)) / 10,
        share_outcomes=rng.normal(size=(CATEGORIES, axes)), constant_outcomes=np.zeros(axes),
        rotation=np.eye(axes) / 5, centre=np.zeros(axes),
    )  # fmt: skip
    return SegmentModel(
        space=space, segments=tuple(f"S{i + 1:02d}" for i in range(SEGMENTS)), macro=("M1",) * SEGMENTS,
        centres=rng.normal(size=(SEGMENTS, axes)), bag_centres=rng.normal(size=(BAGS * BAG_CENTRES, axes)),
        bag_of=np.repeat(np.arange(BAGS), BAG_CENTRES), bag_segment=rng.integers(0, SEGMENTS, BAGS * BAG_CENTRES),
        borders=np.array(BORDERS), level=np.arange(SEGMENTS) % (len(BORDERS) + 1),
        bag_borders=np.sort(BORDERS + rng.normal(0, 0.1, (BAGS, len(BORDERS))), axis=1),
    )  # fmt: skip


def make_tables(con: duckdb.DuckDBPyConnection, model: SegmentModel, *, customers: int, bought: int) -> None:
    who = "'c' || lpad(cast({} as varchar), 9, '0') as customer_id"
    columns = ", ".join(f'random() * 8 as "{name}"' for name in model.space.features)
    con.execute("select setseed(0.5)").fetchall()
    con.execute(f"create table segkit_features as select {who.format('i')}, {columns} from range({customers}) t(i)")
    con.execute(
        f"create table segkit_weights as select {who.format(f'i // {bought}')}, 'cat ' || ((i % {bought}) * "
        f"{CATEGORIES // bought} + cast(floor(random() * {CATEGORIES // bought}) as int)) as category, "
        f"round(random() * 50 + 0.01, 2) as weight from range({customers * bought}) t(i)"
    )


def signals_of(con: duckdb.DuckDBPyConnection, model: SegmentModel, *, customers: int) -> CustomerData:
    """The first customers in memory, as the batch has them."""
    first = f"where customer_id < 'c' || lpad('{customers}', 9, '0') order by customer_id"
    features = con.execute(f"select * from segkit_features {first}").fetch_df().set_index("customer_id")
    held = con.execute(f"select * from segkit_weights {first}").fetch_df()
    column = held["category"].str.removeprefix("cat ").astype(int)
    at = (features.index.get_indexer(held["customer_id"]), column)
    weights = sparse.csr_array((held["weight"], at), shape=(len(features), CATEGORIES))
    return CustomerData(features=features, weights=weights, categories=model.space.terms)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--customers", type=int, default=2_000_000)
    parser.add_argument("--bought", type=int, default=10, help="categories of each customer")
    parser.add_argument("--features", type=int, default=29, help="of the model; Complete Journey has 29")
    parser.add_argument("--axes", type=int, default=14, help="of the model: how much, and one a need")
    parser.add_argument("--batch", type=int, default=100_000, help="customers that are placed in memory")
    parser.add_argument("--spark", default="", help="also on this Spark, e.g. local[2]")
    asked = parser.parse_args()
    model, rows = made_model(asked.axes, features=asked.features), []

    def note(name: str, customers: int, seconds: float) -> None:
        rows.append((name, customers, seconds, seconds / customers * 1e6))
        print(f"{name}: {customers:,} customers, {seconds:.1f} CPU-s", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        con = duckdb.connect(str(Path(folder) / "bench.duckdb"))
        con.execute("set threads = 2").fetchall()
        make_tables(con, model, customers=asked.customers, bought=asked.bought)
        for name, confidence in (("SQL in DuckDB", False), ("SQL in DuckDB, with confidence", True)):
            text = assignment_sql(model, confidence=confidence)
            into = f"create or replace table placed as {text}"
            note(name, asked.customers, cpu(lambda into=into: con.execute(into).fetchall())[0])
        signals = signals_of(con, model, customers=asked.batch)
        seconds, placed = cpu(lambda: assign_segments(model, signals))
        note("numpy batch, with confidence", asked.batch, seconds)
        sql = con.execute("select customer_id, segment, confidence from placed").fetch_df().set_index("customer_id")
        same = (sql.loc[placed.index, "segment"] == placed["segment"]).mean()
        assigner, dense = Assigner(model), signals.select(np.arange(SINGLE))
        features = dense.features.to_dict("records")
        bought = [dict(zip(model.space.terms, row, strict=True)) for row in dense.weights.toarray()]
        given = [(f, {k: v for k, v in w.items() if v}) for f, w in zip(features, bought, strict=True)]
        seconds, ones = cpu(lambda: [assigner.assign_one(f, weights=w) for f, w in given])
        note("one by one, with confidence", SINGLE, seconds)
        alike = np.mean([one.segment == s for one, s in zip(ones, placed["segment"].iloc[:SINGLE], strict=True)])
        peer = KMeans(SEGMENTS, n_init=1, max_iter=5, random_state=0).fit(signals.features.to_numpy()[:20_000])
        read = "select * exclude (customer_id) from segkit_features"
        seconds, _ = cpu(lambda: peer.predict(con.execute(read).fetch_df().to_numpy()))
        note("peer: read to pandas, KMeans.predict, no tastes", asked.customers, seconds)
        if asked.spark:
            note(
                f"SQL in Spark ({asked.spark})",
                asked.customers,
                on_spark(con, model, folder, asked.spark),
            )
    table = pd.DataFrame(rows, columns=["way", "customers", "CPU-s", "CPU-µs each"])
    table["of SQL in DuckDB"] = table["CPU-µs each"] / table["CPU-µs each"].iloc[0]
    print(table.round(2).to_string(index=False))
    print(f"same segment as the batch: SQL {same:.6f}, one by one {alike:.6f}; peak memory "
          f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB")  # fmt: skip


def on_spark(con: duckdb.DuckDBPyConnection, model: SegmentModel, folder: str, master: str) -> float:
    """CPU-seconds of the Java process, which is the whole cluster on one machine."""
    from segkit.data.engine import open_engine

    for name in ("segkit_features", "segkit_weights"):
        con.execute(f"copy {name} to '{folder}/{name}.parquet' (format parquet)").fetchall()
    there = open_engine(master)
    stat = Path(f"/proc/{there._session._jvm.java.lang.ProcessHandle.current().pid()}/stat")
    tables = [there.read_parquet(f"{folder}/{name}.parquet") for name in ("segkit_features", "segkit_weights")]
    before = _ticks(stat)
    assign_in_engine(model, tables[0], weights=tables[1]).to_parquet(f"{folder}/placed")
    return (_ticks(stat) - before) / os.sysconf("SC_CLK_TCK")


def _ticks(stat: Path) -> int:
    """Of a process in user and system mode, by its line in /proc."""
    fields = stat.read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


if __name__ == "__main__":
    main()
