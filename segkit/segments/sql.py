"""Placing as SQL: the model as one query over features and weights, which a warehouse runs without Python.

The query is an Ibis expression, compiled for a dialect; what the model knows of terms stands in it as rows of values.
It rounds nothing: distances within `TIE` are equal, as in the batch, so that all placements fall the same way.
"""

from collections.abc import Iterable, Sequence
from functools import reduce
from importlib.util import find_spec
from operator import add, and_

import ibis
import ibis.expr.types as ir
import numpy as np
import sqlglot.expressions as sge
from ibis.backends.sql import compilers

from segkit.customers.anticipation import CLIP
from segkit.customers.category_mix import split_words
from segkit.errors import InputError
from segkit.segments.model import TIE, LinearMap, SegmentModel, to_linear_map

DIALECTS = {"duckdb": "duckdb", "postgres": "postgres", "spark": "pyspark", "bigquery": "bigquery",
            "snowflake": "snowflake"}  # fmt: skip
TESTED_DIALECTS = (
    "duckdb",
    "postgres",
    "spark",
)  # run by the tests against the batch; the others are compiled, not run
FEATURES, WEIGHTS = "segkit_features", "segkit_weights"  # names of the tables that the query reads
LOADINGS, TERMS = "segkit_loadings", "segkit_terms"  # names of the values inside it
MAX_FINITE = float(np.finfo(float).max)  # what is not below it is infinite or not a number, in every engine
TINY = 1e-100  # is added to values: PostgreSQL refuses a product that is too small for a number and not zero
SPARK_SETTINGS = {  # merged steps repeat each other's arithmetic, and a whole model in one program fills the memory
    "spark.sql.optimizer.excludedRules": "org.apache.spark.sql.catalyst.optimizer.CollapseProject",
    "spark.sql.codegen.wholeStage": "false",
}
ASSIGNED_VIEW = "segkit_placed"  # view of an engine in which customers were placed


def assignment_sql(
    model: SegmentModel,
    *,
    dialect: str = "duckdb",
    features: str = FEATURES,
    weights: str = WEIGHTS,
    categories: Iterable[str] = (),
    confidence: bool = False,
) -> str:
    """The query that places every customer of a features table.

    Takes  model
    Gives  SQL text: customer_id, segment, macro_segment, and confidence where asked for; it reads `features`
           (customer_id, and every feature of the space) and, where the space knows terms, `weights` (customer_id,
           category, weight: amounts or lines above zero, as the days of the lookback add up to). A customer with a
           feature that is null or not finite, whom the batch refuses, gets no segment

    Parameters
    ----------
    dialect : one of `DIALECTS`
    features, weights : names of the two tables
    categories : names that are split into words, where the space is made of words; others belong to none
    confidence : the share of bags that agree too; costs about five times as much as the segment

    Raises
    ------
    InputError : a dialect that is not known
    """
    if dialect not in DIALECTS:
        raise InputError(f"--dialect {dialect}: not known. Use {', '.join(DIALECTS)}.")
    linear_map = to_linear_map(model.space)
    expression = _assignment_expression(model, linear_map, features=features, weights=weights, confidence=confidence)
    query = _compile_query(expression, dialect=dialect)
    for name, texts, numbers, rows in _term_values(linear_map, categories=categories):
        query = query.with_(_identifier(name), as_=_values_query(texts, numbers, rows), append=True, copy=False)
    return query.sql(dialect=dialect, pretty=True)


def assign_in_engine(
    model: SegmentModel, features: ir.Table, *, weights: ir.Table | None = None, confidence: bool = False
) -> ir.Table:
    """Place everyone where their features are: inside DuckDB, PostgreSQL or Spark.

    Takes  features: customer_id and every feature of the space, a table of an engine
    Gives  customer_id, segment, macro_segment and, where asked for, confidence: a table of the same engine that is
           computed when it is read or written, by the engine

    Parameters
    ----------
    weights : customer_id, category, weight (above zero), of the same engine; left out where the space knows no terms
    confidence : the share of bags that agree too; costs about five times as much as the segment
    """
    con = features.get_backend()
    dialect = next(name for name, backend in DIALECTS.items() if backend == con.name)
    categories: Iterable[str] = ()
    names = {"features": _input_view(features, "features")}
    if model.space.terms:
        if weights is None:
            raise InputError("weights: the model is made of what was bought too. Give customer_id, category, weight.")
        names["weights"] = _input_view(weights, "weights")
        if model.space.words:
            categories = weights.select("category").distinct().to_pandas()["category"].dropna()
    text = assignment_sql(model, dialect=dialect, categories=categories, confidence=confidence, **names)
    for name, value in SPARK_SETTINGS.items() if dialect == "spark" else ():
        con.raw_sql(f"set {name} = {value}")
    return _create_view(con, text, name=ASSIGNED_VIEW)


def _input_view(table: ir.Table, part: str) -> str:
    """The table under a name of its own in its engine."""
    name = f"segkit_in_{part}"
    con = table.get_backend()
    _create_view(con, con.compile(table), name=name)
    return name


def _create_view(con: ibis.BaseBackend, text: str, *, name: str) -> ir.Table:
    con.raw_sql(f"create or replace temporary view {name} as {text}")
    return con.table(name)


def _assignment_expression(
    model: SegmentModel, linear_map: LinearMap, *, features: str, weights: str, confidence: bool
) -> ir.Table:
    """The whole as an expression over tables of these names."""
    input_table = ibis.table({"customer_id": "string", **dict.fromkeys(linear_map.features, "float64")}, name=features)
    axes = _behaviour_axes(input_table, linear_map)
    if linear_map.terms:
        axes = _add_category_mix(axes, linear_map, weights=weights)
    found = _add_nearest_centre(axes, model.centres, prefix="near")
    codes = [int(code) for code in np.unique(model.segments, return_inverse=True)[1]]
    columns = {
        "segment": ibis.cases((found.finite, found.near.cases(*enumerate(model.segments)))),
        "macro_segment": ibis.cases((found.finite, found.near.cases(*enumerate(model.macro)))),
    }
    if not confidence:
        return found.select("customer_id", **columns)
    found = found.select("customer_id", *_axes_of(model), code=found.near.cases(*enumerate(codes)), **columns)
    return _add_confidence(found, model, codes=np.array(codes))


def _behaviour_axes(features: ir.Table, linear_map: LinearMap) -> ir.Table:
    """Axes from features: logs of the skewed ones, clipped, times loadings."""
    low, high = linear_map.mean - CLIP * linear_map.scale, linear_map.mean + CLIP * linear_map.scale
    read, finite = {}, []
    for i, name in enumerate(linear_map.features):
        value = features[name].cast("float64")
        finite.append(value.abs() <= _number(MAX_FINITE))
        read[f"f{i}"] = (_number(1) + _positive(value)).ln() if linear_map.skewed[i] else value + _number(TINY)
    read = features.select("customer_id", finite=reduce(and_, finite), **read)
    clipped = {
        f"f{i}": ibis.cases(
            (read[f"f{i}"] > _number(high[i]), _number(high[i])),
            (read[f"f{i}"] < _number(low[i]), _number(low[i])),
            else_=read[f"f{i}"],
        )
        for i in range(len(linear_map.features))
    }
    clipped_table = read.select("customer_id", "finite", **clipped)
    loadings = linear_map.behaviour / linear_map.scale[:, None]
    constant = linear_map.constant - linear_map.mean @ loadings
    names = [f"f{i}" for i in range(len(linear_map.features))]
    axes = {
        f"a{j}": _weighted(clipped_table, names, loadings[:, j], constant=constant[j]) for j in range(len(constant))
    }
    return clipped_table.select("customer_id", "finite", **axes)


def _add_category_mix(axes: ir.Table, linear_map: LinearMap, *, weights: str) -> ir.Table:
    """Add what was bought: log amounts, and square roots of shares of the known terms."""
    bought = ibis.table({"customer_id": "string", "category": "string", "weight": "float64"}, name=weights)
    bought = bought.select("customer_id", term=bought.category, amount=bought.weight.cast("float64"))
    bought = bought.filter(bought.amount > 0)
    if linear_map.words:
        split = ibis.table({"category": "string", "word": "string"}, name=TERMS)
        by_word = bought.join(split, bought.term == split.category)
        bought = by_word.group_by("customer_id", "word").aggregate(amount=by_word.amount.sum())
        bought = bought.select("customer_id", term=bought.word, amount=bought.amount)
    width = linear_map.logs.shape[1]
    columns = ["known", *_loading_columns(width)]
    loadings = ibis.table({"known": "string", **dict.fromkeys(columns[1:], "float64")}, name=LOADINGS)
    read = bought.select(
        "customer_id", "term", "amount", logged=(_number(1) + bought.amount).ln(), root=bought.amount.sqrt()
    )
    joined = read.join(loadings, read.term == loadings.known)
    aggregates = {f"l{j}": (joined.logged * joined[f"l{j}"]).sum() for j in range(width)}
    aggregates |= {f"s{j}": (joined.root * joined[f"s{j}"]).sum() for j in range(width)}
    totals = joined.group_by("customer_id").aggregate(**aggregates, whole=joined.amount.sum())
    shared = totals.select(
        "customer_id", **{f"t{j}": totals[f"l{j}"] + totals[f"s{j}"] / totals.whole.sqrt() for j in range(width)}
    )
    both = axes.left_join(shared, "customer_id")
    return both.select(
        "customer_id", "finite", **{f"a{j}": both[f"a{j}"] + both[f"t{j}"].coalesce(_number(0)) for j in range(width)}
    )


def _add_nearest_centre(axes: ir.Table, centres: np.ndarray, *, prefix: str) -> ir.Table:
    """Add the number of the nearest centre; of those within `TIE` the first."""
    distances = _squared_distances(axes, centres, prefix=prefix)
    names = list(distances)
    wide = axes.select(*axes.columns, **distances)
    lowest = ibis.least(*(wide[name] for name in names)) if len(names) > 1 else wide[names[0]]
    least = wide.select(*wide.columns, **{f"{prefix}_least": lowest})
    limit = least[f"{prefix}_least"] + _number(TIE)
    near = ((least[name] <= limit, i) for i, name in enumerate(names))
    return least.select(*axes.columns, **{prefix: ibis.cases(*near)})


def _squared_distances(axes: ir.Table, centres: np.ndarray, *, prefix: str) -> dict[str, ir.Value]:
    """Squared distances to centres, less the square of the point, which is the same for all."""
    names = [f"a{j}" for j in range(centres.shape[1])]
    return {
        f"{prefix}_{k}": _weighted(axes, names, -2.0 * centre, constant=float(np.square(centre).sum()))
        for k, centre in enumerate(centres)
    }


def _add_confidence(assigned: ir.Table, model: SegmentModel, *, codes: np.ndarray) -> ir.Table:
    """Add the share of bags whose own nearest centre went to the same segment."""
    shown = ["customer_id", "segment", "macro_segment"]
    bags = np.unique(model.bag_of)
    if not len(bags):
        return assigned.select(*shown, confidence=_number(0))
    for bag in bags:
        own = np.flatnonzero(model.bag_of == bag)
        assigned = _add_nearest_centre(assigned, model.bag_centres[own], prefix=f"b{bag}")
        went = assigned[f"b{bag}"].cases(*enumerate(int(code) for code in codes[model.bag_segment[own]]))
        assigned = assigned.select(
            *[c for c in assigned.columns if c != f"b{bag}"], **{f"agrees_{bag}": (went == assigned.code).ifelse(1, 0)}
        )
    agreed = reduce(add, (assigned[f"agrees_{bag}"] for bag in bags)).cast("float64")
    share = ibis.cases((assigned.segment.notnull(), agreed / _number(len(bags))))
    return assigned.select(*shown, confidence=share)


def _compile_query(expression: ir.Table, *, dialect: str) -> sge.Query:
    """An expression as a query of a dialect; steps stay apart, as merged ones would repeat each other's arithmetic."""
    if dialect == "spark":
        if find_spec("pyspark") is None:
            raise InputError("--dialect spark: pyspark is not installed. Run pip install -e '.[spark]' in the repository.")
        ibis.pyspark.name  # noqa: B018  loading it registers options that its compiler reads
    fused, ibis.options.sql.fuse_selects = ibis.options.sql.fuse_selects, False
    try:
        query = getattr(compilers, DIALECTS[dialect]).compiler.to_sqlglot(expression)
    finally:
        ibis.options.sql.fuse_selects = fused
    if dialect == "postgres":  # which merges steps of its own accord, unless they have an offset
        for step in query.find_all(sge.Subquery):
            step.this.set("offset", sge.Offset(expression=sge.Literal.number(0)))
    return query


def _term_values(
    linear_map: LinearMap, *, categories: Iterable[str]
) -> list[tuple[str, list[str], list[str], list[tuple]]]:
    """What the query has to know of terms: name, columns of text, columns of numbers, rows."""
    if not linear_map.terms:
        return []
    numbers = np.hstack([linear_map.logs, linear_map.shares])
    rows = [(term, *(float(v) for v in row)) for term, row in zip(linear_map.terms, numbers, strict=True)]
    found = [(LOADINGS, ["known"], _loading_columns(linear_map.logs.shape[1]), rows)]
    if linear_map.words:
        terms = set(linear_map.terms)
        split = [(name, word) for name in sorted(set(categories)) for word in split_words(name) if word in terms]
        found.append((TERMS, ["category", "word"], [], split or [("", "")]))
    return found


def _values_query(texts: list[str], numbers: list[str], rows: list[tuple]) -> sge.Select:
    """Rows as a query; numbers are written with an exponent and cast, so that no engine reads them as decimals."""
    literals = [sge.Tuple(expressions=[_literal(value) for value in row]) for row in rows]
    alias = sge.TableAlias(this=_identifier("v"), columns=[_identifier(name) for name in [*texts, *numbers]])
    columns = [sge.column(_identifier(name)) for name in texts]
    columns += [sge.cast(sge.column(_identifier(name)), "double").as_(_identifier(name)) for name in numbers]
    return sge.select(*columns).from_(sge.Values(expressions=literals, alias=alias))


def _literal(value: str | float) -> sge.Expression:
    if isinstance(value, str):
        return sge.Literal.string(value)
    number = sge.Literal.number(f"{abs(value):.17e}")
    return sge.Neg(this=number) if value < 0 else number


def _identifier(text: str) -> sge.Identifier:
    return sge.to_identifier(text, quoted=True)


def _loading_columns(width: int) -> list[str]:
    return [*(f"l{j}" for j in range(width)), *(f"s{j}" for j in range(width))]


def _axes_of(model: SegmentModel) -> list[str]:
    return [f"a{j}" for j in range(model.centres.shape[1])]


def _weighted(table: ir.Table, names: Sequence[str], weights: np.ndarray, *, constant: float) -> ir.Value:
    return reduce(add, (table[n] * _number(w) for n, w in zip(names, weights, strict=True)), _number(constant))


def _positive(value: ir.Value) -> ir.Value:
    return ibis.cases((value > _number(0), value), else_=_number(0))


def _number(value: float) -> ir.Value:
    return ibis.literal(float(value), type="float64")
