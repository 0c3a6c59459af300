"""Engines: where days and features are computed. DuckDB in this process, Spark, or a database by its Ibis URL."""

import os
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow.parquet as pq

from segkit.data.sources import connect
from segkit.errors import SourceError

SPARK = re.compile(r"local(\[[0-9*]+(,\s*[0-9]+)?\])?|spark://\S+|yarn|k8s://\S+")
LOCAL_PARTITIONS = 4  # of a shuffle on one machine; Spark's own 200 are for clusters
SPARK_SETTINGS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.execution.arrow.pyspark.enabled": "true",  # without it missing text becomes the word NaN
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.ansi.enabled": "true",  # a sum that does not fit is an error, never null
}


def open_engine(engine: str, *, settings: dict[str, str] | None = None) -> ibis.BaseBackend:
    """The Ibis connection an engine stands for.

    Takes  "duckdb" (in this process); "local[2]", "spark://host:port", "yarn" or "k8s://..." (Spark; the cluster is one
           that exists); or an Ibis URL such as postgres://user@host/database
    Gives  an Ibis connection in UTC

    Parameters
    ----------
    settings : of Spark, beside the few that results depend on

    Raises
    ------
    SourceError : Spark or its Java is not installed, the URL means nothing, or the server does not answer
    """
    if engine in ("", "duckdb"):
        return connect()
    if SPARK.fullmatch(engine):
        return _spark(engine, settings=settings or {})
    if "://" not in engine:
        raise SourceError(f"--engine {engine}: not an engine. Use duckdb, local[2], spark://host:port, or an Ibis URL.")
    try:
        return ibis.connect(engine)
    except Exception as error:  # every backend has errors of its own
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise SourceError(
            f"--engine {_without_password(engine)}: no connection ({_without_password(reason[0])}). "
            "Check the address, and that the extra for this database is installed."
        ) from None


def carry(table: ir.Table, *, to: ibis.BaseBackend, folder: Path | str, name: str) -> ir.Table:
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
    if home.name == "duckdb":
        home.con.execute(f"copy ({ibis.to_sql(table, dialect='duckdb')}) to '{path}' (format parquet)").fetchall()
    else:
        pq.write_table(table.to_pyarrow(), path)
    if to.name in ("duckdb", "pyspark"):
        return to.read_parquet(str(path))
    return to.create_table(name, pq.read_table(path), temp=True)


def _spark(master: str, *, settings: dict[str, str]) -> ibis.BaseBackend:
    if find_spec("pyspark") is None:
        raise SourceError(f"--engine {master}: pyspark is not installed. Run pip install 'segkit[spark]'.")
    if shutil.which("java") is None and not os.environ.get("JAVA_HOME"):
        raise SourceError(f"--engine {master}: no Java found. Install Java 17, or set JAVA_HOME.")
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
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise SourceError(
            f"--engine {master}: Spark did not start ({reason[0]}). Check the address and Java."
        ) from None
    return ibis.pyspark.connect(session)


def _without_password(text: str) -> str:
    return re.sub(r"//([^:/@\s]+):[^@\s]*@", r"//\1:...@", text)
