"""Export the model of a run as one SQL query."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir

from segkit.customers.anticipation import Space
from segkit.customers.days import build_days
from segkit.customers.features import category_totals, features_expression
from segkit.data.alone import refuse_customers_only
from segkit.data.expressions import sql_literal
from segkit.data.holdout import BACKTICKS, Holdout, holdout_if_known
from segkit.data.io import refuse_foreign, refuse_in_run, write_listed
from segkit.data.runs import Run, load_run, open_run_source
from segkit.data.sources import connect, read_events
from segkit.errors import InputError
from segkit.export.newcomers import model_channels
from segkit.segments.model import SegmentModel, model_from_arrays
from segkit.segments.sql import (
    FEATURES,
    SPARK_SETTINGS,
    TESTED_DIALECTS,
    WEIGHTS,
    assignment_sql,
    check_dialect,
    column_type,
)

SQL_SUFFIX = ".sql"
FEATURES_FIRST, EVENTS_FIRST = "features", "events"  # what the query starts from
EVENTS, LOCAL_EVENTS = "segkit_events", "segkit_local_events"  # the table it reads; the same with local days
LOCAL_DAYS = """
select *, cast({q}local{q} as date) as {q}day{q}, cast(extract(hour from {q}local{q}) as {integer}) as {q}hour{q}
from (select *, {local} as {q}local{q} from {q}{events}{q}) as {q}read{q}
"""
LOCAL_TIMES = {  # how a time in UTC is turned into the local one, by dialect; whatever the zone of the session
    "duckdb": "({time} at time zone 'UTC') at time zone {zone}",
    "postgres": "({time} at time zone 'UTC') at time zone {zone}",
    "spark": "convert_timezone('UTC', {zone}, cast({time} as timestamp_ntz))",
    "bigquery": "datetime(cast({time} as timestamp), {zone})",
    "snowflake": "convert_timezone('UTC', {zone}, cast({time} as timestamp_ntz))",
}
READ_BACK = "translated to DuckDB and run by the tests against the batch; not run in a warehouse of this kind"
SPARK_IN_UTC = {"spark.sql.session.timeZone": "UTC"}
WITHOUT_LISTS = ("bigquery", "snowflake")  # in which an event has at most one category


@dataclass(frozen=True)
class Query:
    """The query that assigns customers with the model of a run.

    Parameters
    ----------
    run
        The run that it is made from.
    comments
        What it reads and gives, as SQL comments.
    text
        The query, without a semicolon.
    columns
        Columns of events that it reads, with their types in the dialect; none where it starts from features.
    reads
        Names of the tables that it reads.
    """

    run: Run
    comments: str
    text: str
    columns: Mapping[str, str]
    reads: tuple[str, ...]


def export_sql(
    run_dir: str | Path, *, out: str, dialect: str = "duckdb", confidence: bool = False, start: str = FEATURES_FIRST
) -> Path:
    """Write the query that assigns customers with the model of a run, without those in the holdout of its source.

    Parameters
    ----------
    out
        A file that ends in .sql, or a folder.
    dialect
        duckdb, postgres, spark, bigquery or snowflake.
    confidence
        Also return the share of subsamples that agree; a longer query.
    start
        What it starts from: ``features``, which you compute; or ``events``, from which it computes them, too.
    """
    refuse_in_run(out)
    path = Path(out) if out.endswith(SQL_SUFFIX) else Path(out) / f"place_{dialect}{SQL_SUFFIX}"
    refuse_foreign(path)
    query = make_query(run_dir, dialect=dialect, confidence=confidence, start=start)
    try:
        write_listed(path, f"{query.comments}\n{query.text};\n".encode())
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error.strerror}). Nothing was changed.") from None
    return path


def make_query(run_dir: str | Path, *, dialect: str, confidence: bool, start: str) -> Query:
    """Make the query of ``export_sql``."""
    run = load_run(run_dir)
    refuse_customers_only(run, what="a query that assigns customers")
    check_dialect(dialect)
    model = model_from_arrays(*run.load_model())
    words = model.space.words and run.has("day_categories")
    names = run.scan("day_categories").select("category").distinct().to_pandas()["category"] if words else []
    inputs, columns = _steps_from_events(run, model, dialect=dialect) if start == EVENTS_FIRST else ((), {})
    text = assignment_sql(
        model,
        dialect=dialect,
        categories=[n for n in names if n is not None],
        confidence=confidence,
        inputs=inputs,
    )
    held = holdout_if_known(run)
    if held is not None:
        text = f"select * from (\n{text}\n) as segkit_assigned\nwhere {held.sql_condition(dialect=dialect)}"
    reads = (EVENTS,) if inputs else (FEATURES, WEIGHTS) if model.space.terms else (FEATURES,)
    return Query(run, _sql_header(run, dialect=dialect, events=columns, held=held), text, columns, reads)


def _steps_from_events(
    run: Run, model: SegmentModel, *, dialect: str
) -> tuple[tuple[tuple[str, ir.Table | str], ...], dict[str, str]]:
    """Return the steps from events to what the query reads, and the columns of events that they need.

    The formulas are those of the batch: the same Ibis expressions, over a table that the warehouse has.
    """
    meta, period = run.load_model()[1], run.period
    source = open_run_source(run)
    schema = dict(read_events(source, con=connect()).schema().items())
    if dialect in WITHOUT_LISTS and any(kind.is_array() for kind in schema.values()):
        raise InputError(
            f"--from events: not for {dialect} where an event has a list of categories, as in this source. "
            f"Give --dialect {', '.join(name for name in LOCAL_TIMES if name not in WITHOUT_LISTS)}."
        )
    events = ibis.table(schema, name=LOCAL_EVENTS)
    events = events.filter(events.day < ibis.literal(period.as_of))
    days = build_days(events, kinds=meta["kinds"], aggregate=False)
    features = features_expression(days, kinds=meta["kinds"], channels=model_channels(model), period=period)
    steps: list[tuple[str, ir.Table | str]] = [
        (LOCAL_EVENTS, _local_days(dialect, timezone=meta["timezone"])),
        (FEATURES, features.select("customer_id", *model.space.features)),
    ]
    if model.space.terms:
        weights = category_totals(days.categories, start=period.lookback_start, end=period.as_of)
        steps.append((WEIGHTS, weights.mutate(weight=weights.weight.cast("float64"))))
    columns = {name: kind for name, kind in schema.items() if name not in ("day", "hour")}
    return tuple(steps), {name: column_type(kind, dialect=dialect) for name, kind in columns.items()}


def _local_days(dialect: str, *, timezone: str) -> str:
    """Write the step that adds the local day and hour to each event."""
    mark = "`" if dialect in BACKTICKS else '"'
    time, integer = f"{mark}timestamp{mark}", "int64" if dialect == "bigquery" else "integer"
    local = time if timezone == "UTC" else LOCAL_TIMES[dialect].format(time=time, zone=sql_literal(timezone))
    return LOCAL_DAYS.format(q=mark, integer=integer, local=local, events=EVENTS)


def _read_features_lines(space: Space, parameters: Mapping[str, Any]) -> list[str]:
    return [
        f"Reads {FEATURES}: customer_id text and these features, double precision:",
        *(f"  {name}" for name in space.features),
        f"each over the {parameters['lookback_days']} days before the day of placing, by the formulas of the run.",
    ]


def _read_events_lines(events: Mapping[str, str], parameters: Mapping[str, Any]) -> list[str]:
    return [
        f"Reads {EVENTS}: one row per event, by the contract in docs/sources.md; timestamps in UTC:",
        *(f"  {name} {kind}" for name, kind in events.items()),
        f"It places everyone with an event of their own in the {parameters['lookback_days']} days before "
        f"{parameters['as_of']}. A later run writes it for a later date.",
    ]


def _sql_header(run: Run, *, dialect: str, events: Mapping[str, str], held: Holdout | None) -> str:
    """Describe in comments what the query reads: events with these columns, or else features."""
    parameters = run.parameters()
    space = model_from_arrays(*run.load_model()).space
    tested = "run by the tests against the batch" if dialect in TESTED_DIALECTS else READ_BACK
    lines = [
        f"Segments of {parameters.get('source_name', parameters['source'])} as of {parameters['as_of']}, "
        "by the model of that run.",
        f"Dialect {dialect}: {tested}.",
        *(_read_events_lines(events, parameters) if events else _read_features_lines(space, parameters)),
        "A customer with a feature that is null, infinite or not a number gets no segment.",
    ]
    if space.terms and not events:
        lines += [
            f"Reads {WEIGHTS}: customer_id text, category text, weight double precision above zero: what was bought by",
            "category in the same days (amounts net of discount; lines where there is no money), one row each.",
        ]
    if space.words:
        lines += [
            "Names of categories are read word by word. Only names known to the run are: export again after each."
        ]
    if dialect == "spark":
        lines += ["First set these, or Spark takes all memory to compile it, or reads times in another zone:"]
        lines += [f"  set {name} = {value};" for name, value in (SPARK_SETTINGS | SPARK_IN_UTC).items()]
    lines += [
        "Gives customer_id, segment, macro_segment, need (null where no single one leads).",
        "It knows no earlier segment: a run lets customers at a border keep theirs, this query does not.",
        "Names are quoted: lower case matters.",
    ]
    if held is not None:
        lines.append(f"Customers in the holdout of the source, until {held.end}, are left out. Export again after it.")
    return "\n".join(f"-- {'  ' if line.startswith('  ') else ''}{' '.join(line.split())}" for line in lines)
