"""Column expressions of a source: SQL that gives one value per row from the columns of its file, and nothing else."""

import re

import sqlglot
from sqlglot import exp

from segkit.data.yaml_models import suggest
from segkit.errors import ColumnError, SourceError

NON_DETERMINISTIC = set(
    """
    now today random uuid gen_random_uuid uuidv4 uuidv7 get_current_time get_current_timestamp
    transaction_timestamp current_date current_time current_timestamp currentdate currenttimestamp currenttime
    rand localtimestamp localtime nextval txid_current currval
    """.split()
)
FORBIDDEN_PREFIXES = ("read_", "duckdb_", "pragma_", "current_", "pg_")
MAX_TEXT_SHOWN = 200  # characters of an expression in a message
FORBIDDEN_FUNCTIONS = set(
    """
    getvariable getenv version query query_table setseed write_log
    """.split()
)


def check_expression(text: str, *, columns: list[str], where: str) -> str:
    """Check an expression of a source and return it as SQL for a SELECT.

    Parameters
    ----------
    text
        A column name in any case, or an SQL expression.

    Returns
    -------
    str
        The quoted column, or the expression in brackets.

    Raises
    ------
    SourceError
        The text is not SQL, names an unknown column, is a query or an aggregate, or depends on the clock or on chance.
    """
    bare = bare_column(text, columns=columns)
    if bare is not None:
        return quote(bare)
    tree = _parse(text, columns=columns, where=where)
    for node in tree.walk():
        _refuse(node, text=text, where=where)
    for name in _column_names(tree):
        if name.lower() not in {column.lower() for column in columns}:
            raise ColumnError(
                f"{where}: no column {name!r} in the file.{suggest(name, columns)} "
                f"A constant is written in quotes: \"'{name}'\"."
            )
    return f"({text}\n)"


def bare_column(text: str, *, columns: list[str]) -> str | None:
    """Return the column that a text names, in any case; None for an expression."""
    plain = text[1:-1] if len(text) > 2 and text[0] == text[-1] == '"' else text
    if plain in columns:
        return plain
    return next((column for column in columns if column.lower() == plain.lower()), None)


def columns_used(text: str, *, columns: list[str]) -> list[str]:
    """List the columns of the file that an expression reads, as the file spells them."""
    bare = bare_column(text, columns=columns)
    if bare is not None:
        return [bare]
    try:
        names = _column_names(sqlglot.parse_one(text, read="duckdb"))
    except (sqlglot.errors.SqlglotError, RecursionError):
        return []
    return [column for column in columns if column.lower() in {name.lower() for name in names}]


def quote(name: str) -> str:
    """Quote a name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def sql_literal(text: str) -> str:
    """Quote a text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def _parse(text: str, *, columns: list[str], where: str) -> exp.Expression:
    try:
        trees = sqlglot.parse(text, read="duckdb")
    except (sqlglot.errors.SqlglotError, RecursionError):
        trees = []
    if len(trees) != 1 or trees[0] is None or isinstance(trees[0], exp.Command):
        word = next(
            (column for column in columns if re.search(rf"(?<![\w\"]){re.escape(column)}(?![\w\"])", text)), None
        )
        hint = (
            f" Write columns that are SQL keywords or contain spaces in double quotes: {quote(word)}."
            if word
            else suggest(text, columns)
        )
        raise SourceError(f"{where}: {_shorten(text)} is neither a column of the file nor an SQL expression.{hint}")
    return trees[0]


def _refuse(node: exp.Expression, *, text: str, where: str) -> None:
    if isinstance(node, (exp.Query, exp.DDL, exp.DML, exp.Command, exp.Table, exp.Placeholder, exp.Alias)):
        raise SourceError(
            f"{where}: {_shorten(text)} is a query, but an expression gives one value for one row. Use lookups to add "
            "columns of another table."
        )
    if isinstance(node, (exp.AggFunc, exp.Window, exp.Star, exp.Columns)):
        raise SourceError(
            f"{where}: {_shorten(text)} reads more than one row, but an expression gives one value for one row."
        )
    if isinstance(node, exp.Func):
        name = (node.name if isinstance(node, exp.Anonymous) else node.sql_name()).lower()
        if name.replace("_", "") in {word.replace("_", "") for word in NON_DETERMINISTIC}:
            raise SourceError(
                f"{where}: {_shorten(text)} changes from run to run ({name}). Use the columns of the file only."
            )
        if name == "age" and len(node.expressions) == 1:
            raise SourceError(f"{where}: {_shorten(text)} counts from today. Give age two times.")
        if name in FORBIDDEN_FUNCTIONS or name.startswith(FORBIDDEN_PREFIXES):
            raise SourceError(f"{where}: {_shorten(text)} calls {name}, which is not allowed in a source.")


def _shorten(text: str) -> str:
    return repr(text if len(text) <= MAX_TEXT_SHOWN else text[:MAX_TEXT_SHOWN] + " ...")


def _column_names(tree: exp.Expression) -> list[str]:
    """List the columns that are read, without the parameters of lambdas."""
    local = {name.name for node in tree.find_all(exp.Lambda) for name in node.expressions}
    return list(
        dict.fromkeys(node.parts[0].name for node in tree.find_all(exp.Column) if node.parts[0].name not in local)
    )
