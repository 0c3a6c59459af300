"""Engines: DuckDB, Spark and PostgreSQL compute the same days and features, with every column and weekday."""

import random
from datetime import date
from pathlib import Path

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from segkit.customers.days import ORDERS, TABLES, Days, build_days
from segkit.customers.described import describe_customers
from segkit.customers.features import customer_features, features_expression
from segkit.data import engine as engine_module
from segkit.data.engine import check_engine, open_engine, transfer_table
from segkit.data.runs import Run, open_run
from segkit.errors import SourceError
from segkit.period import Period
from tests import strategies as made
from tests.engines import Spark, free_port

AS_OF = date(2024, 6, 1)
WITHIN = 1e-9
DAYS = {"lookback_days": made.LOOKBACK_DAYS, "horizon_days": 91}
ASKED = {"period": Period(AS_OF, **DAYS), "kinds": made.KINDS}


@pytest.fixture(scope="module")
def large() -> made.Events:
    """Make one large table, the same in every run."""
    return made._events(random.Random(5).choice, rows=600, held=set(made.OPTIONAL), who=[f"c'{i}" for i in range(40)])


@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck), phases=(Phase.generate,))
@given(made.large_events(), st.integers(0, 99))
def test_a_spark_cluster_gives_what_duckdb_gives(
    spark: Spark, tmp_path_factory: pytest.TempPathFactory, events: made.Events, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("events")
    left, right = _halves(events, folder=folder, seed=seed)
    asked = {"as_of": str(AS_OF), "lookback_days": made.LOOKBACK_DAYS, "kinds": made.KINDS}
    spark.ask(left=str(left), right=str(right), out=str(folder), **asked)
    con, here = ibis.duckdb.connect(), build_days(events.table(), kinds=made.KINDS)
    found = {part: con.read_parquet(f"{folder}/{part}/*.parquet") for part in ("rows", "categories", "channels")}
    _same_state(Days(**found), here)
    _same_features(pd.read_parquet(folder / "features.parquet"), here)


def test_postgres_gives_what_duckdb_gives(postgres: str, large: made.Events, tmp_path: Path) -> None:
    con = open_engine(postgres)
    read = ibis.duckdb.connect().create_table("events", large.arrow())
    days = build_days(transfer_table(read, to=con, folder=tmp_path, name="events"), kinds=made.KINDS)
    here = build_days(large.table(), kinds=made.KINDS)
    _same_state(days, here)
    _same_features(features_expression(days, **ASKED).to_pandas(), here)
    con.disconnect()


def test_a_run_has_the_same_days_and_features_from_postgres(postgres: str, large: made.Events, tmp_path: Path) -> None:
    read = open_engine("duckdb").create_table("events", large.arrow())
    runs, features = [], []
    for engine in ("duckdb", postgres):
        runs.append(open_run(tmp_path / engine[:6], step="01_profile", source="x", as_of=str(AS_OF), **DAYS))
        features.append(describe_customers(read, run=runs[-1], engine=engine, kinds=made.KINDS).data.features)
    assert _tables(runs[1]) == _tables(runs[0]) and set(_tables(runs[0])) == {*TABLES.values(), ORDERS} - {"day_items"}
    pd.testing.assert_frame_equal(features[1], features[0], atol=WITHIN, rtol=WITHIN)
    assert not [path for run in runs for path in run.path.glob("*") if path.name not in ("tables", "run.json")]


def test_a_table_is_transferred_only_to_another_engine(tmp_path: Path) -> None:
    one, other = open_engine("duckdb"), open_engine("duckdb")
    table = one.create_table("t", pd.DataFrame({"name": ["l'œuf", None], "value": [1, 2]}))
    assert transfer_table(table, to=one, folder=tmp_path, name="t") is table
    there = transfer_table(table, to=other, folder=tmp_path, name="t")
    assert there.get_backend() is other
    pd.testing.assert_frame_equal(there.to_pandas(), table.to_pandas())


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(SourceError, match="not an engine. Use duckdb, local"):
        open_engine("sparkle")


def test_a_failed_connection_does_not_show_the_password() -> None:
    with pytest.raises(SourceError, match="no connection") as caught:
        open_engine(f"postgres://ann:secret@127.0.0.1:{free_port()}/db")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("engine", "missing", "words"),
    [("local[2]", "find_spec", r"pip install -e '.\[spark\]'"), ("local[2]", "which", "Install Java 17")],
)
def test_missing_parts_of_an_engine_are_named_with_the_command(
    monkeypatch: pytest.MonkeyPatch, engine: str, missing: str, words: str
) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    found = {"find_spec": lambda _: object(), "which": lambda _: "/usr/bin/java"} | {missing: lambda _: None}
    monkeypatch.setattr(engine_module, "find_spec", found["find_spec"])
    monkeypatch.setattr(engine_module.shutil, "which", found["which"])
    with pytest.raises(SourceError, match=words):
        check_engine(engine)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(_: str) -> None:
        raise ModuleNotFoundError("psycopg")

    monkeypatch.setattr(engine_module.ibis, "connect", connect)
    with pytest.raises(SourceError, match=r"pip install -e '.\[postgres\]'"):
        check_engine("postgres://ann@host/db")


def test_an_engine_takes_its_password_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEGKIT_FOLDER", str(tmp_path))
    check_engine("duckdb://$SEGKIT_FOLDER/a.db")
    assert (tmp_path / "a.db").is_file()
    with pytest.raises(SourceError, match=r"write \$NAME in its place"):
        check_engine("postgres://ann:secret@host/db")


def _tables(run: Run) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in run.path.glob("tables/*.parquet")}


def _once(events: made.Events) -> made.Events:
    """Select each event_id once: two parts that are merged later do not see each other."""
    first = {row["event_id"]: i for i, row in reversed(list(enumerate(events.rows)))}
    return events.only([row["event_id"] is None or first[row["event_id"]] == i for i, row in enumerate(events.rows)])


def _halves(events: made.Events, *, folder: Path, seed: int) -> list[Path]:
    once, rng = _once(events), random.Random(seed)
    left = [rng.random() < 0.5 for _ in once.rows]
    paths = [folder / "left.parquet", folder / "right.parquet"]
    for path, keep in zip(paths, (left, [not flag for flag in left]), strict=True):
        pq.write_table(once.only(keep).arrow(), path)
    return paths


def _same_state(found: Days, wanted: Days) -> None:
    for name in ("rows", "categories", "channels"):
        a, b = (_sorted(getattr(days, name)) for days in (found, wanted))
        pd.testing.assert_frame_equal(a, b, check_dtype=False)


def _same_features(found: pd.DataFrame, wanted: Days) -> None:
    features = customer_features(wanted, **ASKED)
    found = found.set_index("customer_id").sort_index()
    assert list(found.index) == list(features.index) and set(found.columns) == set(features.columns)
    assert len(features) > 20 and (features[[n for n in features if n.endswith("day_share")]].max() > 0).sum() == 7
    for name in features:
        np.testing.assert_allclose(found[name], features[name], rtol=WITHIN, atol=1.01 * WITHIN, err_msg=name)


def _sorted(table: ir.Table) -> pd.DataFrame:
    """Return a state as text, so that decimals and dates of two engines compare exactly."""
    plain = table.mutate(
        **{n: table[n].cast("float64") for n, t in table.schema().items() if t.is_numeric()}
    ).to_pandas()
    plain = plain.assign(**{name: plain[name].astype(str).str[:10] for name in ("day", "until") if name in plain})
    keys = [name for name in ("customer_id", "day", "until", "category", "channel") if name in plain]
    return plain[sorted(plain.columns)].sort_values(keys, ignore_index=True)
