"""Column expressions of a source: one value per row, over the columns of its file, and nothing else."""

import re

import sqlglot
from sqlglot import exp

from segkit.data.yaml_models import nearest
from segkit.errors import SourceError

NON_DETERMINISTIC = {
    "now",
    "today",
    "random",
    "uuid",
    "gen_random_uuid",
    "uuidv4",
    "uuidv7",
    "get_current_time",
    "get_current_timestamp",
    "transaction_timestamp",
    "current_date",
    "current_time",
    "current_timestamp",
    "currentdate",
    "currenttimestamp",
    "currenttime",
    "rand",
    "localtimestamp",
    "localtime",
    "nextval",
    "txid_current",
    "currval",
}
FORBIDDEN_PREFIXES = ("read_", "duckdb_", "pragma_")
MAX_TEXT_SHOWN = 200  # characters of an expression in a message
FORBIDDEN_FUNCTIONS = {
    "current_setting",
    "getvariable",
    "getenv",
    "current_user",
    "current_database",
    "current_schema",
    "version",
    "current_version",
    "current_schemas",
    "query",
    "query_table",
}


def check_expression(text: str, *, columns: list[str], where: str) -> str:
    """Check one expression of a YAML and give it as SQL that can stand in a SELECT.

    Takes  the text as written: a bare column name (in any case, with any signs), or an SQL expression
    Gives  SQL: the quoted column, or the expression in brackets

    Raises
    ------
    SourceError : not SQL, a column that is not there (the nearest is named), a query, an aggregate, the clock or chance
    """
    bare = bare_column(text, columns=columns)
    if bare is not None:
        return quote(bare)
    tree = _parse(text, columns=columns, where=where)
    for node in tree.walk():
        _refuse(node, text=text, where=where)
    for name in _column_names(tree):
        if name.lower() not in {column.lower() for column in columns}:
            raise SourceError(
                f"{where}: no column {name!r} in the file.{nearest(name, columns)} "
                f"A constant is written in quotes: \"'{name}'\"."
            )
    return f"({text}\n)"


def bare_column(text: str, *, columns: list[str]) -> str | None:
    """The column that a text names outright, exactly or but for its case; None when it is an expression."""
    plain = text[1:-1] if len(text) > 2 and text[0] == text[-1] == '"' else text
    if plain in columns:
        return plain
    return next((column for column in columns if column.lower() == plain.lower()), None)


def columns_used(text: str, *, columns: list[str]) -> list[str]:
    """The columns of the file that an expression reads, as the file spells them."""
    bare = bare_column(text, columns=columns)
    if bare is not None:
        return [bare]
    try:
        names = _column_names(sqlglot.parse_one(text, read="duckdb"))
    except (sqlglot.errors.SqlglotError, RecursionError):
        return []
    return [column for column in columns if column.lower() in {name.lower() for name in names}]


def quote(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def sql_literal(text: str) -> str:
    """A text as an SQL literal."""
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
            f" Write columns that are also words of SQL, or hold spaces, in double quotes: {quote(word)}."
            if word
            else nearest(text, columns)
        )
        raise SourceError(f"{where}: {_shorten(text)} is neither a column of the file nor an SQL expression.{hint}")
    return trees[0]


def _refuse(node: exp.Expression, *, text: str, where: str) -> None:
    if isinstance(node, (exp.Query, exp.DDL, exp.DML, exp.Command, exp.Table, exp.Placeholder, exp.Alias)):
        raise SourceError(
            f"{where}: {_shorten(text)} is a query; an expression gives one value for one row. To bring in another "
            "table use lookups."
        )
    if isinstance(node, (exp.AggFunc, exp.Window, exp.Star, exp.Columns)):
        raise SourceError(
            f"{where}: {_shorten(text)} looks at more than one row; an expression gives one value for one row."
        )
    if isinstance(node, exp.Func):
        name = (node.name if isinstance(node, exp.Anonymous) else node.sql_name()).lower()
        if name.replace("_", "") in {word.replace("_", "") for word in NON_DETERMINISTIC}:
            raise SourceError(
                f"{where}: {_shorten(text)} changes from run to run ({name}). Use the columns of the file only."
            )
        if name in FORBIDDEN_FUNCTIONS or name.startswith(FORBIDDEN_PREFIXES):
            raise SourceError(f"{where}: {_shorten(text)} calls {name}, which is not allowed in a source.")


def _shorten(text: str) -> str:
    return repr(text if len(text) <= MAX_TEXT_SHOWN else text[:MAX_TEXT_SHOWN] + " ...")


def _column_names(tree: exp.Expression) -> list[str]:
    """Names of columns read, without the parameters of lambdas."""
    local = {name.name for node in tree.find_all(exp.Lambda) for name in node.expressions}
    return list(
        dict.fromkeys(node.parts[0].name for node in tree.find_all(exp.Column) if node.parts[0].name not in local)
    )
