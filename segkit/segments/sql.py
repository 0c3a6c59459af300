"""Write the assignment of customers to segments as one SQL query, which a warehouse runs without Python.

The query is an Ibis expression, compiled for a dialect; the loadings of terms are rows of values inside it. It rounds
nothing: distances within `TIE` are equal, as in the batch, so that all assignments agree.
"""

from collections.abc import Iterable, Sequence
from functools import reduce
from importlib.util import find_spec
from operator import add, and_

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import numpy as np
import sqlglot
import sqlglot.expressions as sge
from ibis.backends.sql import compilers

from segkit.customers.anticipation import CLIP
from segkit.customers.category_mix import split_words
from segkit.errors import InputError
from segkit.segments.model import TIE, LinearMap, SegmentModel, to_linear_map

DIALECTS = {"duckdb": "duckdb", "postgres": "postgres", "spark": "pyspark", "bigquery": "bigquery",
            "snowflake": "snowflake"}  # fmt: skip
TESTED_DIALECTS = ("duckdb", "postgres", "spark")  # tests run them against the batch, and the others as DuckDB
FEATURES, WEIGHTS = "segkit_features", "segkit_weights"  # tables that the query reads
LOADINGS, TERMS = "segkit_loadings", "segkit_terms"  # values inside it
FAR = 1e12  # squared distance to a centre of another level
MAX_FINITE = float(np.finfo(float).max)  # anything above is infinite or not a number, in every engine
TINY = 1e-100  # added to values: PostgreSQL refuses a product that underflows
SPARK_SETTINGS = {  # merged steps repeat arithmetic, and a whole model in one program fills the memory
    "spark.sql.optimizer.excludedRules": "org.apache.spark.sql.catalyst.optimizer.CollapseProject",
    "spark.sql.codegen.wholeStage": "false",
}
ASSIGNED_VIEW = "segkit_placed"  # view of the assigned customers in an engine


def assignment_sql(
    model: SegmentModel,
    *,
    dialect: str = "duckdb",
    features: str = FEATURES,
    weights: str = WEIGHTS,
    categories: Iterable[str] = (),
    confidence: bool = False,
    inputs: Sequence[tuple[str, ir.Table | str]] = (),
) -> str:
    """Write the query that assigns every customer of a features table.

    Parameters
    ----------
    model
        The segments and the space they lie in.
    dialect
        One of `DIALECTS`.
    features, weights
        Names of the tables it reads: customer_id and every feature of the space; and, where the space has terms,
        customer_id, category and weight (amounts or lines above zero, summed over the lookback).
    categories
        Names that are split into words, where terms are words; other categories have none.
    confidence
        Also return the share of subsamples that agree; costs about five times as much as the segment.
    inputs
        Steps that come first, such as ``features`` made from events: name, and an expression over an unbound table or
        SQL of the dialect.

    Returns
    -------
    str
        SQL for customer_id, segment, macro_segment, need (null where no single one leads) and, if asked for,
        confidence. A customer with a feature that is null or not finite, which the batch refuses, has no segment. It
        knows no earlier segment, so customers at a border do not keep theirs, as they do in the batch.

    Raises
    ------
    InputError
        The dialect is unknown.
    """
    check_dialect(dialect)
    linear_map = to_linear_map(model.space)
    expression = _assignment_expression(model, linear_map, features=features, weights=weights, confidence=confidence)
    query = _compile_query(expression, dialect=dialect)
    for name, texts, numbers, rows in _term_values(linear_map, categories=categories):
        query = query.with_(_identifier(name), as_=_values_query(texts, numbers, rows), append=True, copy=False)
    for name, step in reversed(inputs):
        is_sql = isinstance(step, str)
        made = sqlglot.parse_one(step, dialect=dialect) if is_sql else _compile_query(step, dialect=dialect)
        _prefix_steps(made, prefix=f"{name}_")
        query = query.with_(_identifier(name), as_=made, append=True, copy=False)
        steps = query.args["with_"].expressions
        steps.insert(0, steps.pop())  # before those that read it
    return query.sql(dialect=dialect, pretty=True)


def check_dialect(dialect: str) -> None:
    """Raise `InputError` if a dialect is unknown."""
    if dialect not in DIALECTS:
        raise InputError(f"--dialect {dialect}: not known. Use {', '.join(DIALECTS)}.")


def column_type(kind: dt.DataType, *, dialect: str) -> str:
    """Name a type in the SQL of a dialect.

    >>> column_type(ibis.dtype("int64"), dialect="postgres"), column_type(ibis.dtype("int64"), dialect="bigquery")
    ('BIGINT', 'INT64')
    """
    mapper = getattr(compilers, DIALECTS[dialect]).compiler.type_mapper
    return mapper.from_ibis(kind).sql(dialect=dialect)


def assign_in_engine(
    model: SegmentModel, features: ir.Table, *, weights: ir.Table | None = None, confidence: bool = False
) -> ir.Table:
    """Assign customers where their features are: inside DuckDB, PostgreSQL or Spark.

    Parameters
    ----------
    model
        The segments and the space they lie in.
    features
        customer_id and every feature of the space, a table of an engine.
    weights
        customer_id, category, weight (above zero), of the same engine; not needed where the space has no terms.
    confidence
        Also return the share of subsamples that agree; costs about five times as much as the segment.

    Returns
    -------
    ibis.expr.types.Table
        customer_id, segment, macro_segment, need and, if asked for, confidence; the engine computes it when it is read.
    """
    con = features.get_backend()
    dialect = next(name for name, backend in DIALECTS.items() if backend == con.name)
    categories: Iterable[str] = ()
    names = {"features": _input_view(features, "features")}
    if model.space.terms:
        if weights is None:
            raise InputError("weights: the model also reads purchases. Give customer_id, category, weight.")
        names["weights"] = _input_view(weights, "weights")
        if model.space.words:
            categories = weights.select("category").distinct().to_pandas()["category"].dropna()
    text = assignment_sql(model, dialect=dialect, categories=categories, confidence=confidence, **names)
    for name, value in SPARK_SETTINGS.items() if dialect == "spark" else ():
        con.raw_sql(f"set {name} = {value}")
    return _create_view(con, text, name=ASSIGNED_VIEW)


def _input_view(table: ir.Table, part: str) -> str:
    """Give a table a name in its engine, and return it."""
    name = f"segkit_in_{part}"
    con = table.get_backend()
    _create_view(con, con.compile(table), name=name)
    return name


def _create_view(con: ibis.BaseBackend, text: str, *, name: str) -> ir.Table:
    """Create a temporary view of a query."""
    con.raw_sql(f"create or replace temporary view {name} as {text}")
    return con.table(name)


def _assignment_expression(
    model: SegmentModel, linear_map: LinearMap, *, features: str, weights: str, confidence: bool
) -> ir.Table:
    """Build the whole query as an expression over tables of these names."""
    input_table = ibis.table({"customer_id": "string", **dict.fromkeys(linear_map.features, "float64")}, name=features)
    axes = _behaviour_axes(input_table, linear_map)
    if linear_map.terms:
        axes = _add_category_mix(axes, linear_map, weights=weights)
    nearest = _add_nearest_centre(axes, model.centres, prefix="near", borders=model.borders, level=model.level)
    codes = [int(code) for code in np.unique(model.segments, return_inverse=True)[1]]
    columns = {
        "segment": ibis.cases((nearest.finite, nearest.near.cases(*enumerate(model.segments)))),
        "macro_segment": ibis.cases((nearest.finite, nearest.near.cases(*enumerate(model.macro)))),
        "need": _need_column(nearest, model.need),
    }
    if not confidence:
        return nearest.select("customer_id", **columns)
    nearest = nearest.select(
        "customer_id",
        *(f"a{j}" for j in range(model.centres.shape[1])),
        code=nearest.near.cases(*enumerate(codes)),
        **columns,
    )
    return _add_confidence(nearest, model, codes=np.array(codes))


def _need_column(nearest: ir.Table, needs: Sequence[str]) -> ir.Value:
    """Return the need of the nearest centre; null where no single one leads."""
    named = [(number, need) for number, need in enumerate(needs) if need]
    if not named:
        return ibis.null("string")
    return ibis.cases((nearest.finite, nearest.near.cases(*named)))


def _behaviour_axes(features: ir.Table, linear_map: LinearMap) -> ir.Table:
    """Compute axes from features: logs of the skewed ones, clipped, times loadings."""
    low, high = linear_map.mean - CLIP * linear_map.scale, linear_map.mean + CLIP * linear_map.scale
    values, finite = {}, []
    for i, name in enumerate(linear_map.features):
        value = features[name].cast("float64")
        finite.append(value.abs() <= _number(MAX_FINITE))
        values[f"f{i}"] = (
            (_number(1) + ibis.cases((value > _number(0), value), else_=_number(0))).ln()
            if linear_map.skewed[i]
            else value + _number(TINY)
        )
    read = features.select("customer_id", finite=reduce(and_, finite), **values)
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
    """Add purchases to the axes: log amounts, and square roots of the shares of known terms."""
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


def _add_nearest_centre(
    axes: ir.Table, centres: np.ndarray, *, prefix: str, borders: np.ndarray, level: np.ndarray
) -> ir.Table:
    """Add the number of the nearest centre in the customer's level; of those within `TIE` the first."""
    distances = _squared_distances(axes, centres, prefix=prefix)
    names = list(distances)
    wide = axes.select(*axes.columns, **distances)
    if len(borders):
        own = reduce(add, ((wide.a0 >= _number(border - TIE)).ifelse(1, 0) for border in borders))
        wide = wide.select(*wide.columns, **{f"{prefix}_level": own})
        far = {
            name: (wide[f"{prefix}_level"] == int(at)).ifelse(wide[name], _number(FAR))
            for name, at in zip(names, level, strict=True)
        }
        wide = wide.select(*axes.columns, **far)
    lowest = ibis.least(*(wide[name] for name in names)) if len(names) > 1 else wide[names[0]]
    least = wide.select(*wide.columns, **{f"{prefix}_least": lowest})
    limit = least[f"{prefix}_least"] + _number(TIE)
    near = ((least[name] <= limit, i) for i, name in enumerate(names))
    return least.select(*axes.columns, **{prefix: ibis.cases(*near)})


def _squared_distances(axes: ir.Table, centres: np.ndarray, *, prefix: str) -> dict[str, ir.Value]:
    """Compute squared distances to centres, less the square of the point, which is the same for all."""
    names = [f"a{j}" for j in range(centres.shape[1])]
    return {
        f"{prefix}_{k}": _weighted(axes, names, -2.0 * centre, constant=float(np.square(centre).sum()))
        for k, centre in enumerate(centres)
    }


def _add_confidence(assigned: ir.Table, model: SegmentModel, *, codes: np.ndarray) -> ir.Table:
    """Add the share of subsamples whose nearest cluster belongs to the same segment."""
    columns = ["customer_id", "segment", "macro_segment", "need"]
    subsamples = np.unique(model.bag_of)
    if not len(subsamples):
        return assigned.select(*columns, confidence=_number(0))
    for place, number in enumerate(subsamples):
        clusters = np.flatnonzero(model.bag_of == number)
        borders = model.bag_borders[place] if len(model.bag_borders) else model.borders[:0]
        assigned = _add_nearest_centre(
            assigned,
            model.bag_centres[clusters],
            prefix=f"b{number}",
            borders=borders,
            level=model.level[model.bag_segment[clusters]],
        )
        cluster_code = assigned[f"b{number}"].cases(
            *enumerate(int(code) for code in codes[model.bag_segment[clusters]])
        )
        assigned = assigned.select(
            *[c for c in assigned.columns if c != f"b{number}"],
            **{f"agrees_{number}": (cluster_code == assigned.code).ifelse(1, 0)},
        )
    agreed = reduce(add, (assigned[f"agrees_{number}"] for number in subsamples)).cast("float64")
    share = ibis.cases((assigned.segment.notnull(), agreed / _number(len(subsamples))))
    return assigned.select(*columns, confidence=share)


def _compile_query(expression: ir.Table, *, dialect: str) -> sge.Query:
    """Compile an expression for a dialect; steps stay apart, as merged ones would repeat each other's arithmetic."""
    if dialect == "spark":
        if find_spec("pyspark") is None:
            raise InputError("--dialect spark: pyspark is not installed. Run pip install -e '.[spark]'.")
        ibis.pyspark.name  # noqa: B018  loading it registers options that its compiler reads
    fused, ibis.options.sql.fuse_selects = ibis.options.sql.fuse_selects, False
    try:
        query = getattr(compilers, DIALECTS[dialect]).compiler.to_sqlglot(expression)
    finally:
        ibis.options.sql.fuse_selects = fused
    if dialect == "postgres":  # merges steps unless they have an offset
        for step in query.find_all(sge.Subquery):
            step.this.set("offset", sge.Offset(expression=sge.Literal.number(0)))
    return query


def _prefix_steps(query: sge.Query, *, prefix: str) -> None:
    """Give the inner steps of a query names of their own: Spark's SQL is written with the steps of all in one list."""
    inner = {step.alias for step in query.find_all(sge.CTE)}
    for step in query.find_all(sge.CTE, sge.Table):
        if step.alias in inner and isinstance(step, sge.CTE):
            step.set("alias", sge.TableAlias(this=_identifier(prefix + step.alias)))
        elif step.name in inner:
            step.set("this", _identifier(prefix + step.name))


def _term_values(
    linear_map: LinearMap, *, categories: Iterable[str]
) -> list[tuple[str, list[str], list[str], list[tuple]]]:
    """List the tables of values for terms: name, columns of text, columns of numbers, rows."""
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
    """Write rows as a query; numbers have an exponent and a cast, so that no engine reads them as decimals."""
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
    """Quote a name."""
    return sge.to_identifier(text, quoted=True)


def _loading_columns(width: int) -> list[str]:
    """Name the columns of loadings: `l` for log amounts, `s` for shares."""
    return [*(f"l{j}" for j in range(width)), *(f"s{j}" for j in range(width))]


def _weighted(table: ir.Table, names: Sequence[str], weights: np.ndarray, *, constant: float) -> ir.Value:
    """Sum columns times weights, and a constant."""
    return reduce(add, (table[n] * _number(w) for n, w in zip(names, weights, strict=True)), _number(constant))


def _number(value: float) -> ir.Value:
    """Write a number as a double."""
    return ibis.literal(float(value), type="float64")
