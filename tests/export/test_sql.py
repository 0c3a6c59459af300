"""The model of a run as a SQL file: it says what it reads, and DuckDB runs it as it stands."""

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import ibis
import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlglot
from click.testing import CliRunner

from segkit.cli import main
from segkit.data.holdout import Holdout
from segkit.data.runs import load_run, open_run, open_run_source
from segkit.data.sources import connect, read_events
from segkit.errors import InputError
from segkit.export.query import export_sql
from segkit.segments.model import SegmentModel, assign_segments, model_to_arrays
from segkit.segments.sql import DIALECTS
from tests.engines import Spark
from tests.segments.test_sql import as_tables, made_model, made_signals

BOTH = "ABS CAST COALESCE COUNT EXISTS LAG LEAST LN MAX MIN ROUND ROW_NUMBER SQRT SUM".split()
DOCUMENTED = {  # functions and types with brackets that these warehouses have
    "bigquery": {*BOTH, *"COUNTIF DATE DATETIME DATE_DIFF EXTRACT IEEE_DIVIDE IF MOD STRUCT TRUNC UNNEST".split()},
    "snowflake": {
        *BOTH,
        *"CONVERT_TIMEZONE COUNT_IF DATEDIFF DATE_FROM_PARTS DATE_PART DECIMAL IFF VALUES".split(),
    },
}


@pytest.fixture
def model() -> SegmentModel:
    return made_model(np.random.default_rng(3), words=False)


@pytest.fixture
def run(model: SegmentModel, tmp_path: Path) -> Path:
    made = open_run(tmp_path / "run", source="shop", as_of="2024-06-01", lookback_days=182)
    arrays, meta = model_to_arrays(model)
    made.save_model(arrays, meta=meta)
    return made.path


def test_the_file_runs_as_it_stands(run: Path, model: SegmentModel, tmp_path: Path) -> None:
    path = export_sql(run, out=str(tmp_path / "out"))
    text = path.read_text(encoding="utf-8")
    assert path.name == "place_duckdb.sql" and "run by the tests against the batch" in text.splitlines()[1]
    assert "--   gap_variation\n" in text and "segkit_weights: customer_id text, category text, weight" in text
    signals = made_signals(np.random.default_rng(4), customers=50)
    con = duckdb.connect()
    for name, table in zip(("segkit_features", "segkit_weights"), as_tables(signals), strict=True):
        con.register(name, table)
    found = con.execute(text).fetch_df().set_index("customer_id").sort_index()
    pd.testing.assert_frame_equal(found, assign_segments(model, signals)[list(found.columns)], check_dtype=False)


def test_a_dialect_that_no_test_runs_carries_a_note(run: Path, tmp_path: Path) -> None:
    text = export_sql(run, out=str(tmp_path / "b.sql"), dialect="bigquery").read_text(encoding="utf-8")
    assert "Dialect bigquery: translated to DuckDB and run by the tests against the batch; not run in" in text


@pytest.mark.parametrize("dialect", DIALECTS)
def test_nobody_of_the_holdout_gets_a_segment(
    run: Path, model: SegmentModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dialect: str
) -> None:
    held = Holdout(0.3, start=date(2024, 5, 1), end=date(2024, 12, 31))
    monkeypatch.setattr("segkit.export.query.holdout_if_known", lambda run: held)
    text = export_sql(run, out=str(tmp_path / "out"), dialect=dialect).read_text(encoding="utf-8")
    assert "Customers in the holdout of the source, until 2024-12-31, are left out. Export again after it." in text
    if dialect != "duckdb":
        sqlglot.parse_one(text, read=dialect)
        assert {"spark": "sha2(", "snowflake": "sha2("}.get(dialect, "sha256(") in text
        return
    signals = made_signals(np.random.default_rng(4), customers=50)
    con = duckdb.connect()
    for name, table in zip(("segkit_features", "segkit_weights"), as_tables(signals), strict=True):
        con.register(name, table)
    ids = set(signals.features.index)
    assert 5 < len(held.members(ids)) < 30
    assert set(con.execute(text).fetch_df()["customer_id"]) == ids - held.members(ids)


def test_the_command_takes_a_dialect_or_refuses_it(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.sql"
    answer = CliRunner().invoke(main, ["export", str(run), "--to", "sql", "--dialect", "postgres", "--out", str(out)])
    assert (answer.exit_code, answer.stdout) == (0, f"{out}\n") and out.is_file()
    with pytest.raises(InputError, match="--dialect oracle: not known"):
        export_sql(run, out=str(tmp_path / "o.sql"), dialect="oracle")
    assert not (tmp_path / "o.sql").exists()
    both = CliRunner().invoke(main, ["export", str(run), "--to", "sql", "--target", "x.yaml", "--out", str(out)])
    assert both.exit_code == 2 and "give one of --to and --target" in both.stderr


def _fill(url: str, events: pa.Table) -> None:
    """Put events into a table of PostgreSQL, each column as what it is."""
    kinds = {"string": "text", "double": "double precision", "int64": "bigint", "bool": "boolean"}
    names = [(field.name, str(field.type).partition("[")[0].partition("(")[0]) for field in events.schema]
    columns = ", ".join(f"{name} {'numeric' if 'decimal' in kind else kinds.get(kind, kind)}" for name, kind in names)
    with psycopg.connect(url.replace("postgres://", "postgresql://"), autocommit=True) as con:
        con.execute("drop table if exists segkit_events")
        con.execute(f"create table segkit_events ({columns})")
        with con.cursor().copy("copy segkit_events from stdin") as copy:
            for row in zip(*(column.to_pylist() for column in events.columns), strict=True):
                copy.write_row(row)


@dataclass
class Placed:
    """The events of the made-up shop, and where its run puts each customer."""

    events: pa.Table
    batch: pd.DataFrame

    def check(self, found: pd.DataFrame) -> None:
        """Compare what a query gave for every customer."""
        found = found.set_index("customer_id").sort_index()
        pd.testing.assert_frame_equal(found[list(self.batch.columns)], self.batch, check_dtype=False)

    def ask_duckdb(self, text: str) -> pd.DataFrame:
        con = duckdb.connect()
        con.execute("create macro ieee_divide(a, b) as a / b")  # of BigQuery; the same where b is not zero
        con.register("segkit_events", self.events)
        return con.execute(text).fetch_df()


@pytest.fixture
def placed(whole_run: Path) -> Placed:
    made = load_run(whole_run)
    batch = made.table("assignments").set_index("customer_id").sort_index()
    events = read_events(open_run_source(made), con=connect()).drop("day", "hour").to_pyarrow()
    return Placed(events, batch[["segment", "macro_segment", "need"]])


def test_one_query_from_raw_events_gives_every_customer_the_segment_of_the_run(
    whole_run: Path, placed: Placed, tmp_path: Path, postgres: str
) -> None:
    out = tmp_path / "place.sql"
    command = ["export", str(whole_run), "--to", "sql", "--from", "events", "--out", str(out)]
    assert CliRunner().invoke(main, command).exit_code == 0
    text = out.read_text(encoding="utf-8")
    assert "-- Reads segkit_events: one row per event" in text and "segkit_features: customer_id" not in text
    placed.check(placed.ask_duckdb(text))
    _fill(postgres, placed.events)
    export_sql(whole_run, out=str(out), dialect="postgres", start="events")
    with psycopg.connect(postgres.replace("postgres://", "postgresql://")) as server:
        rows = server.execute(out.read_text(encoding="utf-8"))
        placed.check(pd.DataFrame(rows.fetchall(), columns=[column.name for column in rows.description]))


@pytest.mark.parametrize("dialect", DOCUMENTED)
def test_bigquery_and_snowflake_mean_the_same_and_know_every_function(
    whole_run: Path, placed: Placed, tmp_path: Path, dialect: str
) -> None:
    text = export_sql(whole_run, out=str(tmp_path / "p.sql"), dialect=dialect, start="events").read_text("utf-8")
    query = re.sub(r"^--.*$|'[^']*'", "", text, flags=re.MULTILINE)
    assert {name.upper() for name in re.findall(r"([A-Za-z_0-9]+)\(", query)} <= DOCUMENTED[dialect]
    placed.check(placed.ask_duckdb(sqlglot.parse_one(text, dialect=dialect).sql(dialect="duckdb")))


def test_a_list_of_categories_is_refused_where_lists_are_not_unnested_alike(
    whole_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = ibis.table({"customer_id": "string", "category": "array<string>"}, name="events")
    monkeypatch.setattr("segkit.export.query.read_events", lambda source, con: events)
    words = "not for snowflake where an event has a list of categories, .* Give --dialect duckdb, postgres, spark"
    with pytest.raises(InputError, match=words):
        export_sql(whole_run, out=str(tmp_path / "p.sql"), dialect="snowflake", start="events")
    assert not (tmp_path / "p.sql").exists()


@pytest.mark.slow
def test_spark_gives_every_customer_the_segment_of_the_run(
    whole_run: Path, placed: Placed, tmp_path: Path, spark: Spark
) -> None:
    export_sql(whole_run, out=str(tmp_path / "p.sql"), dialect="spark", start="events")
    pq.write_table(placed.events, tmp_path / "events.parquet")
    asked = {"query": "p.sql", "events": "events.parquet", "out": "placed.parquet"}
    spark.ask(**{name: str(tmp_path / file) for name, file in asked.items()})
    placed.check(pd.read_parquet(tmp_path / "placed.parquet"))
