"""Assign segments to customers that a run has not seen, from their events, with the model of the run."""

import io
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import yaml

from segkit.customers.days import build_days
from segkit.customers.features import category_totals, features_expression
from segkit.data.alone import refuse_customers_only
from segkit.data.contract import column_types
from segkit.data.engine import LOCAL_ENGINES, open_engine, read_rows, transfer_table
from segkit.data.expressions import quote
from segkit.data.holdout import Holdout, holdout_if_known
from segkit.data.io import (
    csv_quoting,
    escape_formula,
    refuse_foreign,
    refuse_in_run,
    write_listed,
)
from segkit.data.readers import open_file
from segkit.data.runs import Run, load_run, load_run_privacy
from segkit.data.sources import (
    check_rejected_share,
    connect,
    count_rejected_rows,
    open_source,
    read_events,
    source_files,
)
from segkit.data.spec import CONTRACT, REQUIRED, FileSpec, Source, parse_source
from segkit.data.yaml_models import suggest
from segkit.errors import InputError
from segkit.period import Period
from segkit.segments.model import SegmentModel, model_from_arrays
from segkit.segments.sql import assign_in_engine
from segkit.vocabulary import block_of

CHANNEL_AFFIXES = ("channel_", "_share")  # around the name of a channel, in the name of its feature


def assign_newcomers(
    run_dir: str | Path,
    events: str,
    *,
    folder: str | Path,
    as_of: str = "",
    data_dir: str = "",
    engine: str = "duckdb",
) -> ir.Table:
    """Assign everyone with an event of their own in the lookback before a date.

    Parameters
    ----------
    events
        A source's YAML file, or a table (csv, parquet, xlsx) with the columns of the contract.
    folder
        Where events are put for another engine to read; a cluster must see it under the same path.
    as_of
        ISO date, exclusive; by default that of the run.
    engine
        duckdb, local[2], spark://host:port, or an Ibis URL: where days, features and segments are computed.

    Returns
    -------
    ibis.expr.types.Table
        customer_id, segment, segment_name, macro_segment, need (null where no single one leads), confidence; the engine
        computes it when it is read. No earlier segment is known, so customers at a border do not keep theirs. Without
        the holdout of the run's source, and of the events' own.

    Raises
    ------
    InputError
        Events without a column that the model reads, or of kinds that the run does not know.
    """
    run = load_run(run_dir)
    refuse_customers_only(run, what="segkit place")
    arrays, meta = run.load_model()
    model = model_from_arrays(arrays, meta)
    made = run.parameters()
    period = Period.parse(
        as_of or made["as_of"], lookback_days=meta["lookback_days"], horizon_days=made["horizon_days"]
    )
    read = _read_new_events(events, run=run, meta=meta, data_dir=data_dir, period=period)
    if engine not in LOCAL_ENGINES:
        read = transfer_table(read, to=open_engine(engine), folder=folder, name="segkit_events")
    days = build_days(read, kinds=meta["kinds"], aggregate=False)
    features = features_expression(days, kinds=meta["kinds"], channels=model_channels(model), period=period)
    missing = sorted(set(model.space.features) - set(features.columns))
    if missing or (model.space.terms and days.categories is None):
        lacking = ", ".join(missing[:5]) or "categories"
        raise InputError(
            f"{events}: the model also reads {lacking}. Give the columns that the source of the run gives."
        )
    features = _materialise(features.select("customer_id", *model.space.features), folder=folder, name="features")
    weights = None
    if model.space.terms:
        weights = category_totals(days.categories, start=period.lookback_start, end=period.as_of)
        weights = _materialise(weights, folder=folder, name="weights")
    assigned = assign_in_engine(model, features, weights=weights, confidence=True)
    for holdout in _holdouts(run, events, data_dir=data_dir, period=period):
        assigned = holdout.without(assigned)
    names = run.table("segments").set_index("segment")["name"].to_dict()
    named = assigned.segment.cases(*names.items(), else_=assigned.segment)
    return assigned.select(
        "customer_id",
        "segment",
        segment_name=named,
        macro_segment=assigned.macro_segment,
        need=assigned.need,
        confidence=assigned.confidence,
    )


def _read_new_events(events: str, *, run: Run, meta: dict[str, Any], data_dir: str | None, period: Period) -> ir.Table:
    """Read events before ``as_of``; customer ids stay as the events have them, also where the run shows pseudonyms."""
    source = _open_events(events, meta=meta, data_dir=data_dir)
    source = source.model_copy(update={"privacy": replace(load_run_privacy(run), key="")})
    unknown = sorted(set(source.kinds) - set(meta["kinds"]))
    if unknown:
        kinds = ", ".join(unknown)
        raise InputError(f"{events}: the run knows no events of kind {kinds}. Use the kinds of its source.")
    con = connect()
    check_rejected_share(count_rejected_rows(source, con=con), source=source)
    read = read_events(source, con=con)
    return read.filter(read.day < ibis.literal(period.as_of))


def _holdouts(run: Run, events: str, *, data_dir: str, period: Period) -> set[Holdout]:
    """Return the holdouts of the run's source and of the source of the events, where they hold now."""
    own = _open_events(events, meta=run.load_model()[1], data_dir=data_dir)
    found = {holdout_if_known(run), Holdout.of(own)} - {None}
    return {one for one in found if one.covers(period.as_of, period.horizon_end - timedelta(days=1))}


def write_newcomers(assigned: ir.Table, *, out: str | Path) -> Path:
    """Write assigned customers, sorted by id: csv or Parquet; on Spark the cluster writes a folder of Parquet files.

    Parameters
    ----------
    assigned
        The result of `assign_newcomers`.
    out
        A file, or for a cluster a folder.

    Raises
    ------
    InputError
        `out` has another suffix, or is a folder that exists already.
    """
    path, on_spark = Path(out), assigned.get_backend().name == "pyspark"
    refuse_out(out, on_spark=on_spark)
    if on_spark:
        assigned.to_parquet(str(path), mode="errorifexists")
        return path
    table = assigned.to_pandas().sort_values("customer_id", ignore_index=True).round({"confidence": 6})
    buffer = io.BytesIO()
    if path.suffix == ".parquet":
        table.to_parquet(buffer, index=False)
    else:
        text = table.select_dtypes(exclude="number").columns
        escaped = table.assign(**{name: table[name].map(escape_formula, na_action="ignore") for name in text})
        escaped.to_csv(buffer, index=False, quoting=csv_quoting(escaped))
    write_listed(path, buffer.getvalue())
    return path


def refuse_out(out: str | Path, *, on_spark: bool, events: str = "", data_dir: str = "") -> None:
    """Raise if the result could not be written, before anything is computed.

    Raises `InputError`: `out` has another suffix, is one of the files that are read or in the folder of a run, or
    a file would be replaced that was not written here.
    """
    refuse_in_run(out)
    read = {Path(events).resolve()} if events else set()
    if Path(events).suffix.lower() in (".yaml", ".yml"):
        read |= source_files(open_source(events, data_dir=data_dir or None))
    if Path(out).resolve() in read:
        raise InputError(f"--out {out}: the events are read from this file. Give another.")
    if on_spark and Path(out).exists():
        raise InputError(f"--out {out}: it exists already, and a cluster writes a new folder. Give another.")
    if not on_spark and Path(out).suffix not in (".csv", ".parquet"):
        raise InputError(f"--out {out}: end the name in .csv or .parquet.")
    if not on_spark:
        refuse_foreign(Path(out))


def _materialise(table: ir.Table, *, folder: str | Path, name: str) -> ir.Table:
    """Let a cluster write a table and read it back: features and assignments in one plan take all memory to compile."""
    engine = table.get_backend()
    if engine.name != "pyspark":
        return table
    path = Path(folder).absolute() / name
    table.to_parquet(str(path), mode="errorifexists")
    return read_rows(path, to=engine, name=name)


def model_channels(model: SegmentModel) -> tuple[str, ...]:
    """Return the channels whose shares the model reads."""
    before, after = CHANNEL_AFFIXES
    of_channel = [name for name in model.space.features if block_of(name) == "channel" and name.startswith(before)]
    return tuple(name.removeprefix(before).removesuffix(after) for name in of_channel)


def _open_events(events: str, *, meta: Mapping[str, Any], data_dir: str) -> Source:
    """Open the source of a YAML file, or that of a table whose columns have the names of the contract."""
    path = Path(events)
    if path.suffix.lower() in (".yaml", ".yml") or "." not in path.name:
        return open_source(events, data_dir=data_dir or None)
    con = connect()
    open_file(FileSpec(path=path.name), base=path.parent.resolve(), name="segkit_new", con=con)
    columns = list(column_types("segkit_new", con=con))
    missing = sorted(set(REQUIRED) - set(columns))
    if missing:
        raise InputError(
            f"{path.name}: there is no column {missing[0]!r}.{suggest(missing[0], columns)} Name the columns by the "
            "contract (docs/sources.md), or give a source's YAML file."
        )
    table = {"path": path.name, "columns": {name: quote(name) for name in CONTRACT if name in columns}}
    description = {
        "name": path.stem,
        "timezone": meta["timezone"],
        "kinds": meta["kinds"],
        "needs": list(meta["needs"]),
    }
    text = yaml.safe_dump({**description, "events": [table]}, allow_unicode=True, sort_keys=False)
    return parse_source(text, label=path.name, base=path.parent.resolve())
