"""Engines that compute days and features: DuckDB in this process, Spark, or a database by its Ibis URL."""

import os
import re
import shutil
import socket
import sys
from importlib.util import find_spec
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow.parquet as pq

from segkit.data.io import PASSWORD, expand_variables, first_line, mask_secrets
from segkit.data.row_groups import write_rows
from segkit.data.sources import connect
from segkit.errors import SourceError

GLOB = re.compile(r"[\[\]{}*?\\]")  # letters of a path that Spark would read as a pattern
SPARK_MASTER = re.compile(r"local(\[[0-9*]+(,\s*[0-9]+)?\])?|spark://\S+|yarn|k8s://\S+")
LOCAL_ENGINES = ("", "duckdb")
CONNECT_TIMEOUT = 5.0  # seconds for a Spark master to answer
INSTALL = {"postgres": "-e '.[postgres]'", "postgresql": "-e '.[postgres]'"}  # Ibis backend -> arguments of pip
LOCAL_PARTITIONS = 4  # of a shuffle on one machine; the default of Spark, 200, is for clusters
SPARK_SETTINGS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.execution.arrow.pyspark.enabled": "true",  # without it a missing text becomes NaN
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.ansi.enabled": "true",  # an overflow is an error, never null
}


def check_engine(engine: str) -> None:
    """Refuse an engine that cannot be used, before any work and without starting Spark.

    Raises `SourceError`: as in `open_engine`; or the URL has a password, which would be written to ``run.json``.
    """
    if PASSWORD.search(engine):
        raise SourceError(
            f"--engine {mask_secrets(engine)}: a run records its engine, so it must not contain a password. "
            "Put it in an environment variable and write $NAME in its place, in quotes."
        )
    if SPARK_MASTER.fullmatch(engine):
        _require_spark(engine)
        _require_reachable(engine)
    elif engine not in LOCAL_ENGINES:
        open_engine(engine).disconnect()


def open_engine(engine: str, *, settings: dict[str, str] | None = None) -> ibis.BaseBackend:
    """Open the Ibis connection of an engine, in UTC.

    Parameters
    ----------
    engine
        ``duckdb`` (in this process); ``local[2]``, ``spark://host:port``, ``yarn`` or ``k8s://...`` (Spark, on an
        existing cluster); or an Ibis URL such as ``postgres://user@host/database``, ``$NAME`` from the environment.

    Raises
    ------
    SourceError
        The engine is unknown, Spark or Java is not installed, or the server does not answer.
    """
    if engine in LOCAL_ENGINES:
        return connect()
    if SPARK_MASTER.fullmatch(engine):
        _require_spark(engine)
        return _spark(engine, settings=settings or {})
    if "://" not in engine:
        raise SourceError(f"--engine {engine}: not an engine. Use duckdb, local[2], spark://host:port, or an Ibis URL.")
    shown = mask_secrets(engine)
    try:
        return ibis.connect(expand_variables(engine))
    except ImportError:
        kind = engine.partition("://")[0]
        arguments = INSTALL.get(kind, f"'ibis-framework[{kind}]'")
        raise SourceError(f"--engine {shown}: {kind} is not installed. Run pip install {arguments}.") from None
    except Exception as error:  # each backend has its own errors
        reason = mask_secrets(first_line(error), url=engine)
        raise SourceError(
            f"--engine {shown}: no connection ({reason}). Check the address, and that the server is up."
        ) from None


def transfer_table(table: ir.Table, *, to: ibis.BaseBackend, folder: Path | str, name: str) -> ir.Table:
    """Move a table to another engine through a Parquet file; a table of that engine is returned as it is.

    Parameters
    ----------
    table, to
        The table, and an engine that reads ``folder`` under the same path.
    folder
        On a cluster, a folder that all workers see.
    name
        Name of the file and of the table.
    """
    if table.get_backend() is to:
        return table
    path = Path(folder).resolve() / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_rows(table, path)
    return read_rows(path, to=to, name=name)


def read_rows(path: Path, *, to: ibis.BaseBackend, name: str) -> ir.Table:
    """Open a Parquet file, with Spark also a folder of them, as a table; a database gets a temporary copy."""
    if to.name == "duckdb":
        return to.read_parquet(str(path), hive_partitioning=False)  # a folder such as day=1 is no column
    if to.name == "pyspark":
        return to.read_parquet(GLOB.sub(r"\\\g<0>", str(path)))
    return to.create_table(name, pq.read_table(path, partitioning=None), temp=True)


def _require_spark(master: str) -> None:
    """Refuse Spark where pyspark or Java is missing, without starting it."""
    if find_spec("pyspark") is None:
        raise SourceError(f"--engine {master}: pyspark is not installed. Run pip install -e '.[spark]'.")
    if shutil.which("java") is None and not os.environ.get("JAVA_HOME"):
        raise SourceError(f"--engine {master}: no Java found. Install Java 17, or set JAVA_HOME.")


def _require_reachable(master: str) -> None:
    """Refuse a standalone master that does not answer; Spark itself would try for a minute."""
    if not master.startswith("spark://"):
        return
    for host, port in re.findall(r"([^/,:\s]+):(\d+)", master.removeprefix("spark://")):
        try:
            socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT).close()
            return
        except (OSError, OverflowError):
            continue
    raise SourceError(f"--engine {master}: no Spark master answers. Check spark://host:port, and that it is up.")


def _spark(master: str, *, settings: dict[str, str]) -> ibis.BaseBackend:
    from pyspark.sql import SparkSession

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    all_settings = dict(SPARK_SETTINGS)
    if master.startswith("local"):
        all_settings |= {
            "spark.sql.shuffle.partitions": str(LOCAL_PARTITIONS),
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
        }
    builder = SparkSession.builder.master(master).appName("segkit")
    for key, value in (all_settings | settings).items():
        builder = builder.config(key, value)
    try:
        session = builder.getOrCreate()
    except Exception as error:
        raise SourceError(
            f"--engine {master}: Spark did not start ({first_line(error)}). Check the address and Java."
        ) from None
    return ibis.pyspark.connect(session)
