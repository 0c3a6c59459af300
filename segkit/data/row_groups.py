"""Write large tables to Parquet in groups of as many rows each, so that the same rows always give the same bytes."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq

ROWS_AT_ONCE = 1_000_000
NAMES = ("customer_id", "category", "item", "channel")  # columns that repeat their values from row to row
DAYS = ("day", "until")
DIGITS = 18  # of a decimal number that fits 64 bits
SORT_KEYS = ("customer_id", "day", "until", "category", "item", "channel")  # together the key of a row


class RowGroups:
    """A Parquet file that is written piece by piece; rows lie in groups of ``ROWS_AT_ONCE``, whatever the pieces.

    Parameters
    ----------
    path
        The file.
    encode
        Makes the columns of a group as they are written: each column of ``NAMES`` a dictionary whose values are in the
        order of their first row.
    """

    def __init__(self, path: Path, *, encode: Callable[[pa.Table], pa.Table]) -> None:
        self._path, self._encode = path, encode
        self._pending: list[pa.Table] = []
        self._rows = 0
        self._file: pq.ParquetWriter | None = None

    def __enter__(self) -> "RowGroups":
        """Return the file, which is made with its first group."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what is left, and close the file; a file that failed is removed."""
        try:
            if kind is None and (self._rows or self._file is None):
                self._write_groups(least=0)
        finally:
            if self._file is not None:
                self._file.close()
            if kind is not None:
                self._path.unlink(missing_ok=True)

    def write(self, table: pa.Table) -> None:
        """Add rows; all tables have the same columns, and there is at least one, if only an empty one."""
        self._pending.append(table)
        self._rows += len(table)
        self._write_groups(least=ROWS_AT_ONCE)

    def _write_groups(self, *, least: int) -> None:
        while self._pending and self._rows >= least:
            rows = pa.concat_tables(self._pending)
            group, rest = self._encode(rows.slice(0, ROWS_AT_ONCE).combine_chunks()), rows.slice(ROWS_AT_ONCE)
            self._pending, self._rows = [rest] if len(rest) else [], len(rest)
            if self._file is None:
                self._file = _writer(self._path, group.schema)
            self._file.write_table(group)


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Open a file; whole numbers are stored as differences, which is quickest to write and to read.

    They and days are small as they are: to compress them too would take longer and save a twentieth.
    """
    named = [field.name for field in schema if field.name in (*NAMES, *DAYS)]
    whole = [
        field.name
        for field in schema
        if field.name not in named
        and (pa.types.is_integer(field.type) or (pa.types.is_decimal(field.type) and field.type.precision <= DIGITS))
    ]
    return pq.ParquetWriter(
        path,
        schema,
        compression={field.name: "none" if field.name in (*whole, *DAYS) else "zstd" for field in schema},
        write_page_checksum=True,
        use_dictionary=named,
        column_encoding=dict.fromkeys(whole, "DELTA_BINARY_PACKED"),
        store_decimal_as_integer=True,
        store_schema=False,
    )


def write_rows(table: ir.Table, path: Path) -> None:
    """Write the rows of an expression to a Parquet file, in groups."""
    engine = table.get_backend()
    if engine.name == "duckdb":  # Ibis 12 asks DuckDB 2 for a method that it no longer has
        rows = engine.con.sql(ibis.to_sql(table, dialect="duckdb")).to_arrow_reader(ROWS_AT_ONCE)
    else:
        rows = table.to_pyarrow_batches(chunk_size=ROWS_AT_ONCE)
    with RowGroups(path, encode=_encode_names) as file:
        file.write(rows.schema.empty_table())
        for batch in rows:
            file.write(pa.Table.from_batches([batch]))


def write_by_key(table: ir.Table, path: Path, *, local: ibis.BaseBackend) -> None:
    """Write the rows of an expression to a Parquet file, sorted by their key, so that their order is unique.

    `local`: a DuckDB that sorts what another engine gives: engines sort text differently; DuckDB sorts by bytes.
    """
    if table.get_backend().name == "duckdb":
        write_rows(_sort_by_key(table), path)
        return
    unsorted = path.with_name(f"{path.name}.unsorted")
    if table.get_backend().name == "pyspark":  # its workers write a folder of files
        table.to_parquet(str(unsorted.resolve()), mode="overwrite")
        written = sorted(unsorted.glob("*.parquet"))
    else:
        write_rows(table, unsorted)
        written = [unsorted]
    write_rows(_sort_by_key(local.read_parquet([str(file) for file in written], hive_partitioning=False)), path)
    shutil.rmtree(unsorted) if unsorted.is_dir() else unsorted.unlink()


def _sort_by_key(table: ir.Table) -> ir.Table:
    """Sort rows by their key; orders of a day by a hash, as sorting many texts takes long."""
    keys = [table[key] for key in (*SORT_KEYS, "bought") if key in table.columns]
    if "order_id" in table.columns:
        hashed = table.order_id.hash()
        keys += [table.order_id.isnull(), hashed < 0, hashed, table.order_id]  # unsigned, as DuckDB has it
    return table.order_by(keys)


def _encode_names(table: pa.Table) -> pa.Table:
    """Make dictionaries of the columns that repeat their values."""
    for place, name in enumerate(table.column_names):
        if name in NAMES and not pa.types.is_nested(table.schema.field(name).type):
            column = table.column(place).combine_chunks().dictionary_encode()
            table = table.set_column(place, name, column)
    return table
