"""A table of a database is brought up to date in one transaction: what interrupts it leaves the old rows."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import psycopg
import pytest

from segkit.errors import InputError
from segkit.export.database import write_table
from segkit.export.export import export_segments

NAME = "segkit_segments"


def _rows(segments: dict[str, str]) -> pd.DataFrame:
    table = pd.DataFrame({"customer_id": list(segments), "segment": list(segments.values()), "confidence": "0.5"})
    return table.assign(as_of="2024-06-01").set_index("customer_id", drop=False)


@pytest.fixture
def held(postgres: str) -> Callable[[str], list[tuple]]:
    """Ask the server, as its owner; the table of the last test is gone."""

    def ask(sql: str) -> list[tuple]:
        with psycopg.connect(postgres.replace("postgres://", "postgresql://"), autocommit=True) as con:
            found = con.execute(sql)
            return found.fetchall() if found.description else []

    ask(f"drop table if exists {NAME}")
    ask(f"drop table if exists other.{NAME}; drop schema if exists other")
    return ask


def _state(held: Callable[[str], list[tuple]], name: str = NAME) -> list[tuple]:
    return held(f"select customer_id, segment, cast(left_on as text) from {name} order by 1")


def test_rows_are_inserted_updated_and_marked_when_gone(postgres: str, held: Callable) -> None:
    first = write_table(_rows({"a": "S01", "b\t'\\": "S01", "c": "S02"}), url=postgres, as_of="2024-06-01")
    assert first == {"new": 3, "updated": 0, "gone": 0}
    then = write_table(_rows({"a": "S02", "d": "S01"}), url=postgres, as_of="2024-07-01")
    assert then == {"new": 1, "updated": 1, "gone": 2}
    gone = "2024-07-01"
    assert _state(held) == [("a", "S02", None), ("b\t'\\", "S01", gone), ("c", "S02", gone), ("d", "S01", None)]
    back = write_table(_rows({"a": "S02", "c": "S01", "d": "S01"}), url=postgres, as_of="2024-08-01")
    assert back == {"new": 0, "updated": 3, "gone": 0}
    assert ("c", "S01", None) in _state(held) and ("b\t'\\", "S01", gone) in _state(held)


def test_duckdb_does_the_same(tmp_path: Path) -> None:
    url = f"duckdb://{tmp_path / 'd.duckdb'}"
    assert write_table(_rows({"a": "S01", "b": "S01"}), url=url, as_of="2024-06-01")["new"] == 2
    counts = write_table(_rows({"b": "S02", "c": "S02"}), url=url, as_of="2024-07-01")
    assert counts == {"new": 1, "updated": 1, "gone": 1}


def test_a_lost_connection_leaves_the_old_rows(postgres: str, held: Callable) -> None:
    write_table(_rows({"a": "S01", "b": "S02"}), url=postgres, as_of="2024-06-01")
    before = held(f"select * from {NAME} order by 1")

    def cut() -> None:
        held("select pg_terminate_backend(pid) from pg_stat_activity where state = 'idle in transaction'")

    with pytest.raises(InputError, match="terminat.*Nothing was written: the table is as it was"):
        write_table(_rows({"a": "S09", "z": "S09"}), url=postgres, as_of="2024-07-01", before_commit=cut)
    assert held(f"select * from {NAME} order by 1") == before
    assert held("select 1 from pg_tables where tablename like 'segkit_stage%'") == []
    assert write_table(_rows({"a": "S09"}), url=postgres, as_of="2024-07-01")["updated"] == 1


@pytest.mark.slow
def test_an_export_that_is_killed_leaves_the_old_rows(postgres: str, held: Callable) -> None:
    write_table(_rows({"a": "S01", "b": "S02"}), url=postgres, as_of="2024-06-01")
    before = held(f"select * from {NAME} order by 1")
    script = f"""
import os, signal, pandas as pd
from segkit.export.database import write_table
rows = pd.DataFrame({{"customer_id": ["a", "z"], "segment": "S09", "confidence": "0.5", "as_of": "2024-07-01"}})
kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
write_table(rows, url={postgres!r}, as_of="2024-07-01", before_commit=kill)
"""
    ended = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr[-2000:]
    assert held(f"select * from {NAME} order by 1") == before
    assert write_table(_rows({"a": "S09"}), url=postgres, as_of="2024-07-01")["updated"] == 1


def test_no_rights_is_reported_and_nothing_is_touched(postgres: str, held: Callable) -> None:
    write_table(_rows({"a": "S01"}), url=postgres, as_of="2024-06-01")
    held("drop role if exists reader; create role reader login; revoke all on schema public from public")
    held(f"grant usage on schema public to reader; grant select on {NAME} to reader")
    reader = postgres.replace("postgres@", "reader@")
    with pytest.raises(InputError, match="permission denied.*Check the connection, and the rights"):
        write_table(_rows({"a": "S02"}), url=reader, as_of="2024-07-01")
    assert _state(held) == [("a", "S01", None)]
    with pytest.raises(InputError, match="permission denied"):
        write_table(_rows({"a": "S02"}), url=reader, name="public.of_my_own", as_of="2024-07-01")
    held(f"drop owned by reader; drop role reader; drop table {NAME}")


def test_a_table_with_other_columns_is_refused_and_kept(postgres: str, held: Callable) -> None:
    held(f"create table {NAME} (customer_id text primary key, price int); insert into {NAME} values ('a', 3)")
    with pytest.raises(
        InputError, match=r"other columns \(missing: as_of, confidence, left_on, segment; unknown: price\)"
    ):
        write_table(_rows({"a": "S01"}), url=postgres, as_of="2024-06-01")
    assert held(f"select * from {NAME}") == [("a", 3)]


def test_an_export_reaches_a_schema_of_its_own(
    postgres: str, held: Callable, make_run: Callable[..., Path], people: pd.DataFrame
) -> None:
    held("create schema other")
    made = export_segments(make_run(people), to="database", out=postgres, table=f"other.{NAME}")
    assert made.written == ((f"other.{NAME}: new", 60), (f"other.{NAME}: updated", 0), (f"other.{NAME}: gone", 0))
    found = held(f"select segment_name, confidence, as_of::text from other.{NAME} where customer_id = 'c00'")
    assert found == [('=Big, "bold"', 0.75, "2024-06-01")]


def test_a_database_that_keeps_no_keys_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="updated in postgres, duckdb. For others export parquet"):
        write_table(_rows({"a": "S01"}), url=f"sqlite://{tmp_path / 'x.db'}", as_of="2024-06-01")
