"""The tables of a run, each declared once in ``tables.yaml``: its columns, its writers and its readers.

The check of a table when it is written, the tables that a later run needs, the titles on pages and the list in
``notebooks/README.md`` all come from these declarations.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml

from segkit.errors import SchemaError

if TYPE_CHECKING:
    import pandera.pandas as pa

KEPT_SEGMENTS = "kept segments"  # what needs a table of the last run: a run that keeps its segments
UNITS = {  # of types whose unit need not be declared
    "text": "text",
    "segment": "segment id",
    "flag": "yes or no",
    "day": "date",
    "share": "share",
}
TYPES = {  # type -> what pandera checks, or nothing; texts have a check of their own
    "text": None,
    "segment": None,
    "flag": bool,
    "day": "datetime64[us]",
    "count": "int64",
    "whole": "int64",
    "share": float,
    "amount": float,
    "number": float,
    "any": None,
}
OLD_TABLES = {  # names of tables in format 1 of a run -> names now
    "rivals": "baselines",
    "baseline": "starting_values",
    "promises": "forecast_accuracy",
    "foresight": "predictability",
    "gaps": "unmet_needs",
    "sides": "comparison",
    "past_features": "training_features",
    "past_bought": "training_bought",
    "past_came": "training_outcomes",
    "past_came_bought": "training_outcomes_bought",
}
OLD_COLUMNS = {  # table of format 1 -> column -> its name now; only read to refuse such a run
    "rivals": {"rival": "baseline"},
    "key_results": {"baseline": "starting_value"},
    "promises": {
        f"{old}{end}": f"{new}{end}"
        for old, new in {"expected": "predicted", "came": "observed"}.items()
        for end in ("", "_low", "_high")
    },
    "calibration": {"promised": "predicted", "came": "observed"},
    "gaps": {"gap": "difference", "gap_low": "difference_low", "gap_high": "difference_high"},
    "sides": {"told_apart": "distinct_readings"},
    "personas": {"said": "in_their_words"},
    "decision_tests": {"says": "decision"},
}


@dataclass(frozen=True)
class Column:
    """One column of a table, or several where its name has a ``*``.

    Parameters
    ----------
    name, type, unit
        Column name; a key of ``TYPES``; unit of the values.
    meaning
        A sentence.
    empty
        Whether values may be missing.
    maybe
        Whether the column may be missing.
    unique
        Whether no value may repeat.
    values
        The allowed values; none where any value is allowed.
    """

    name: str
    type: str
    unit: str
    meaning: str
    empty: bool = False
    maybe: bool = False
    unique: bool = False
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """One table of a run.

    Parameters
    ----------
    name, row
        Name of the table, and what one row of it is.
    columns
        In their declared order.
    writers, readers
        Notebooks that write it; notebooks and commands that read it.
    optional_for
        Readers that also work without it.
    last_run
        Notebooks that need this table of the last run, and ``KEPT_SEGMENTS``.
    key
        Columns that identify a row.
    optional
        Whether a complete run may lack it.
    ordered
        Whether the columns must be in their declared order.
    shown
        Titles on pages by column, in their order.
    """

    name: str
    row: str
    columns: tuple[Column, ...]
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    optional_for: tuple[str, ...] = ()
    last_run: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    optional: bool = False
    ordered: bool = False
    shown: dict[str, str] = field(default_factory=dict)

    def column(self, name: str) -> Column | None:
        """Return the declaration of a column, or None; an exact name comes before one with a ``*``."""
        exact = [column for column in self.columns if column.name == name]
        return next(iter(exact or [column for column in self.columns if fnmatchcase(name, column.name)]), None)


@dataclass(frozen=True)
class Notebook:
    """The question that a notebook answers, and what else it reads and writes."""

    label: str
    question: str
    input: tuple[str, ...] = ()
    output: tuple[str, ...] = ()


@cache
def tables() -> dict[str, Table]:
    """Return every table by name, in the order in which a run writes them."""
    return {name: _table(name, declared) for name, declared in _declared()["tables"].items()}


@cache
def notebooks() -> dict[str, Notebook]:
    """Return every notebook of the chain by name, in the order in which they run."""
    lists = ("input", "output")
    return {
        name: Notebook(**{key: tuple(value) if key in lists else value for key, value in declared.items()})
        for name, declared in _declared()["notebooks"].items()
    }


def writer_of(name: str) -> str | None:
    """Return the notebook that writes a table; None for a table that is not declared."""
    return tables()[name].writers[0] if name in tables() else None


def written_by(notebook: str) -> list[Table]:
    """List the tables that a notebook writes."""
    return [table for table in tables().values() if notebook in table.writers]


def read_by(notebook: str) -> list[Table]:
    """List the tables that a notebook or command reads."""
    return [table for table in tables().values() if notebook in table.readers]


def required_by(notebook: str) -> tuple[str, ...]:
    """List the tables without which a notebook does not run."""
    return tuple(table.name for table in read_by(notebook) if notebook not in table.optional_for)


def needed_of_last_run(reader: str) -> tuple[str, ...]:
    """List the tables of the last run that a notebook, or a run that keeps its segments, cannot do without."""
    return tuple(table.name for table in tables().values() if reader in table.last_run and not table.optional)


def titles(name: str) -> dict[str, str]:
    """Return the titles of a table on pages, column to title, in their order."""
    return dict(tables()[name].shown)


def list_of_notebooks() -> str:
    """List the notebooks with what they read and write, as a table in Markdown."""
    lines = ["| notebook | question | reads | writes |", "|---|---|---|---|"]
    for name, notebook in notebooks().items():
        reads = [*notebook.input, *(f"`{table.name}`" for table in read_by(name) if name != table.writers[0])]
        writes = [*(f"`{table.name}`" for table in written_by(name)), *notebook.output]
        question = notebook.question[:1].upper() + notebook.question[1:]
        lines.append(f"| `{name}` | {question} | {', '.join(reads)} | {', '.join(writes)} |")
    return "\n".join(lines) + "\n"


def old_names(names: Collection[str]) -> list[str]:
    """List what tables of format 1 and their columns are called now, one phrase each."""
    found = [f"{name} is {OLD_TABLES[name]}" for name in names if name in OLD_TABLES]
    for name in names:
        columns = [f"{old} is {new}" for old, new in OLD_COLUMNS.get(name, {}).items()]
        found += [f"in {name} {', '.join(columns)}"] if columns else []
    return found


def check(table: pd.DataFrame, *, name: str) -> None:
    """Check a table against its declaration before it is written.

    `table`: any table; one that is not declared needs only distinct text column names. Raises `SchemaError`: the table
    does not fit; the message names the column, what was found and in how many rows.
    """
    import pandera.pandas as pa  # slow to import, and readers do without

    repeated = sorted({str(c) for c in table.columns[table.columns.duplicated()]})
    if repeated or not all(isinstance(c, str) for c in table.columns):
        raise SchemaError(f"{name}: column names must be distinct text; repeated: {repeated}.")
    if name not in tables():
        return
    try:
        _schema(tables()[name], columns=list(table.columns)).validate(table, lazy=True)
    except pa.errors.SchemaErrors as error:
        raise SchemaError(_first_failure(error.failure_cases, name=name, rows=len(table))) from None


def _declared() -> dict[str, Any]:
    text = resources.files("segkit").joinpath("tables.yaml").read_text(encoding="utf-8")
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _table(name: str, declared: dict[str, Any]) -> Table:
    key = tuple(declared.get("key", ()))
    columns = [part for own, of in declared["columns"].items() for part in _columns(own, of, unique=key == (own,))]
    return Table(
        name=name,
        row=declared["row"],
        columns=tuple(columns),
        writers=tuple(declared["writer"]),
        readers=tuple(reader.removesuffix("?") for reader in declared["readers"]),
        optional_for=tuple(reader[:-1] for reader in declared["readers"] if reader.endswith("?")),
        last_run=tuple(declared.get("last_run", ())),
        key=key,
        optional=declared.get("optional", False),
        ordered=declared.get("ordered", False),
        shown=declared.get("shown", {}),
    )


def _columns(name: str, declared: dict[str, Any], *, unique: bool) -> list[Column]:
    """Build a declared column, with the two ends of its interval where it has one."""
    type_ = declared["type"].removesuffix("?")
    column = Column(
        name=name,
        type=type_,
        unit=declared.get("unit") or UNITS[type_],
        meaning=declared["meaning"],
        empty=declared["type"].endswith("?"),
        maybe=declared.get("maybe", False),
        unique=unique or declared.get("unique", False),
        values=tuple(declared.get("values", ())),
    )
    columns, ends = [column], {"low": "Lower", "high": "Upper"} if declared.get("range") else {}
    for end, side in ends.items():
        meaning = f"{side} end of the 95 % interval of {name}."
        columns.append(Column(f"{name}_{end}", type_, column.unit, meaning, empty=column.empty, maybe=column.maybe))
    return columns


def _schema(table: Table, *, columns: list[str]) -> "pa.DataFrameSchema":
    """Build the pandera schema of the given and the required columns."""
    import pandera.pandas as pa

    expected = [column.name for column in table.columns if "*" not in column.name and not column.maybe]
    known = {name: table.column(name) for name in [*expected, *(c for c in columns if c not in expected)]}
    return pa.DataFrameSchema(
        {name: _pandera(column) for name, column in known.items() if column is not None},
        strict=True,
        ordered=table.ordered,
        unique=list(table.key) if len(table.key) > 1 else None,
    )


def _pandera(column: Column) -> "pa.Column":
    import pandera.pandas as pa

    is_text = pa.Check(_is_text, name="text", ignore_na=False)
    checks = {
        "text": [is_text],
        "segment": [is_text, pa.Check.str_matches(r"^S\d{2,}$")],
        "share": [pa.Check.in_range(0, 1)],
        "count": [pa.Check.ge(0)],
        "amount": [pa.Check.ge(0)],
    }.get(column.type, [])
    if column.values:
        checks = [*checks, pa.Check.isin(list(column.values))]
    dtype = TYPES[column.type]
    if column.empty and dtype == "int64":
        dtype = float
    nullable = column.empty or column.type == "any"
    return pa.Column(dtype, checks, nullable=nullable, unique=column.unique, coerce=dtype is not None)


def _is_text(values: pd.Series) -> pd.Series:
    """Return which values are texts or missing, with one look at them all; pandera asks each in turn."""
    if pd.api.types.infer_dtype(values) in ("string", "empty"):
        return pd.Series(True, index=values.index)
    return values.isna() | values.map(lambda value: isinstance(value, str))


def _first_failure(cases: pd.DataFrame, *, name: str, rows: int) -> str:
    """Describe the first failure in one sentence: the column, what was found, in how many rows."""
    first = cases.iloc[0]
    if first["check"] in ("column_in_dataframe", "column_in_schema"):
        state = "is missing" if first["check"] == "column_in_dataframe" else "is not one of its columns"
        return f"{name}: column '{first['failure_case']}' {state}."
    column = first["column"] if isinstance(first["column"], str) else first["failure_case"]
    same = cases[(cases["column"] == first["column"]) & (cases["check"] == first["check"])]
    found = sorted({str(v) for v in same["failure_case"]})[:3]
    return f"{name}: column '{column}' fails {first['check']}: found {found} ({len(same):,} of {rows:,} rows)."
