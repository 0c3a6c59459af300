"""Engines: where days and features are computed. DuckDB in this process, Spark, or a database by its Ibis URL."""

import os
import re
import shutil
import socket
import sys
from importlib.util import find_spec
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq

from segkit.data.io import PASSWORD, expand_variables, mask_secrets
from segkit.data.sources import connect
from segkit.errors import SourceError

SPARK_MASTER = re.compile(r"local(\[[0-9*]+(,\s*[0-9]+)?\])?|spark://\S+|yarn|k8s://\S+")
LOCAL_ENGINES = ("", "duckdb")  # in this process
ROWS_AT_ONCE = 1_000_000
CONNECT_TIMEOUT = 5.0  # seconds for a Spark master to answer
EXTRAS = {"postgres": "-e '.[postgres]' in the repository", "postgresql": "-e '.[postgres]' in the repository"}
LOCAL_PARTITIONS = 4  # of a shuffle on one machine; Spark's own 200 are for clusters
SPARK_SETTINGS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.execution.arrow.pyspark.enabled": "true",  # without it missing text becomes the word NaN
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.ansi.enabled": "true",  # a sum that does not fit is an error, never null
}


def check_engine(engine: str) -> None:
    """Refuse an engine that cannot be used, before any work: Spark is looked for, not started.

    Raises
    ------
    SourceError : as `open_engine`; or the URL holds a password, which run.json would keep
    """
    if PASSWORD.search(engine):
        raise SourceError(
            f"--engine {mask_secrets(engine)}: a run records its engine, so no password belongs in it. "
            "Put it in an environment variable and write $NAME in its place, in quotes."
        )
    if SPARK_MASTER.fullmatch(engine):
        _require_spark(engine)
        _require_reachable(engine)
    elif engine not in LOCAL_ENGINES:
        open_engine(engine).disconnect()


def open_engine(engine: str, *, settings: dict[str, str] | None = None) -> ibis.BaseBackend:
    """The Ibis connection an engine stands for.

    Takes  "duckdb" (in this process); "local[2]", "spark://host:port", "yarn" or "k8s://..." (Spark; the cluster is one
           that exists); or an Ibis URL such as postgres://user@host/database, $NAME in it from the environment
    Gives  an Ibis connection in UTC

    Parameters
    ----------
    settings : of Spark, beside the few that results depend on

    Raises
    ------
    SourceError : Spark or its Java is not installed, the URL means nothing, or the server does not answer
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
        extra = EXTRAS.get(kind, f"'ibis-framework[{kind}]'")
        raise SourceError(f"--engine {shown}: {kind} is not installed. Run pip install {extra}.") from None
    except Exception as error:  # every backend has errors of its own
        reason = mask_secrets(_reason(error), url=engine)
        raise SourceError(
            f"--engine {shown}: no connection ({reason}). Check the address, and that it is up."
        ) from None


def transfer_table(table: ir.Table, *, to: ibis.BaseBackend, folder: Path | str, name: str) -> ir.Table:
    """Take a table to another engine by way of a Parquet file; one that is there already stays as it is.

    Takes  an Ibis table; an engine that reads `folder` under the same path
    Gives  the same rows as a table of that engine

    Parameters
    ----------
    folder : for a cluster, one that all workers see
    name : of the file, and of the table
    """
    home = table.get_backend()
    if home is to:
        return table
    path = Path(folder).resolve() / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_rows(table, path)
    return read_rows(path, to=to, name=name)


def write_rows(table: ir.Table, path: Path) -> None:
    """Write the rows of an expression to a Parquet file, in slices."""
    rows = _batches(table)
    with pq.ParquetWriter(path, rows.schema, compression="zstd", write_page_checksum=True) as file:
        for batch in rows:
            file.write_batch(batch)


def read_rows(path: Path, *, to: ibis.BaseBackend, name: str) -> ir.Table:
    """A Parquet file as a table of an engine: read where it lies, or taken into the database for a while."""
    if to.name in ("duckdb", "pyspark"):
        return to.read_parquet(str(path))
    return to.create_table(name, pq.read_table(path), temp=True)


def _batches(table: ir.Table) -> pa.RecordBatchReader:
    """The rows in slices (Ibis 12 asks DuckDB 2 for a method it no longer has, hence its own call)."""
    home = table.get_backend()
    if home.name == "duckdb":
        return home.con.sql(ibis.to_sql(table, dialect="duckdb")).to_arrow_reader(ROWS_AT_ONCE)
    return table.to_pyarrow_batches(chunk_size=ROWS_AT_ONCE)


def _require_spark(master: str) -> None:
    """Say what Spark lacks here, without starting it."""
    if find_spec("pyspark") is None:
        hint = "Run pip install -e '.[spark]' in the repository."
        raise SourceError(f"--engine {master}: pyspark is not installed. {hint}")
    if shutil.which("java") is None and not os.environ.get("JAVA_HOME"):
        raise SourceError(f"--engine {master}: no Java found. Install Java 17, or set JAVA_HOME.")


def _require_reachable(master: str) -> None:
    """Ask a standalone master whether it is there: Spark itself would try for a minute."""
    if not master.startswith("spark://"):
        return
    for host, port in re.findall(r"([^/,:\s]+):(\d+)", master.removeprefix("spark://")):
        try:
            socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT).close()
            return
        except (OSError, OverflowError):
            continue
    raise SourceError(f"--engine {master}: no Spark master answers there. Check spark://host:port, and that it is up.")


def _spark(master: str, *, settings: dict[str, str]) -> ibis.BaseBackend:
    from pyspark.sql import SparkSession

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    chosen = dict(SPARK_SETTINGS)
    if master.startswith("local"):
        chosen |= {
            "spark.sql.shuffle.partitions": str(LOCAL_PARTITIONS),
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
        }
    builder = SparkSession.builder.master(master).appName("segkit")
    for key, value in (chosen | settings).items():
        builder = builder.config(key, value)
    try:
        session = builder.getOrCreate()
    except Exception as error:
        raise SourceError(
            f"--engine {master}: Spark did not start ({_reason(error)}). Check the address and Java."
        ) from None
    return ibis.pyspark.connect(session)


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
