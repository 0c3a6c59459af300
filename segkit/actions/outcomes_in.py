"""Outcomes of a pilot as they come in: the source again, a file of events, or a file with the KPI of each customer."""

import json
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pandas as pd

from segkit.actions.kpi import KPIS, kpi_values
from segkit.customers.days import build_days
from segkit.data import sources
from segkit.data.spec import CONTRACT, Source, parse_source
from segkit.errors import InputError

LATE_DAYS = 7  # of a window without any event at its end, before it counts as unfinished


def read_outcomes(
    outcomes: str, *, facts: dict[str, Any], index: pd.Index, data_dir: str = ""
) -> tuple[pd.Series, dict[str, Any]]:
    """The KPI of each customer of a pilot over its window.

    Takes  outcomes: a source (complete_journey, or a YAML file) or a table (csv, parquet): events with customer_id and
           timestamp, of which the window is counted, or one row a customer with customer_id and the KPI; facts: of
           pilot.json
    Gives  values by customer_id, and what they were read from (how, fingerprint)

    Parameters
    ----------
    data_dir : folder of the files of a source; empty for beside its YAML

    Raises
    ------
    InputError : no outcome in it, outcomes before the treatment, a window that is not over, customers that are missing
    """
    if outcomes in sources.BUILT_IN or outcomes.endswith((".yaml", ".yml")):
        source = sources.open_source(outcomes, data_dir=data_dir or None)
        return _of_events(source, facts=facts, index=index), {
            "how": "source",
            "fingerprint": sources.fingerprint(source),
        }
    path = Path(outcomes)
    if not path.is_file():
        raise InputError(
            f"{outcomes}: no such file, and no source of that name. Give a YAML source, or a CSV of outcomes."
        )
    about = {"how": "file", "fingerprint": sha256(path.read_bytes()).hexdigest()}
    columns = _read(path, rows=0).columns.tolist()
    if "customer_id" not in columns:
        raise InputError(f"{path.name}: there is no column customer_id. It has {', '.join(map(str, columns))}.")
    if "timestamp" in columns:
        source = _as_source(path, columns=columns, facts=facts)
        return _of_events(source, facts=facts, index=index), about
    if facts["kpi"] not in columns:
        raise InputError(
            f"{path.name}: there is no outcome. Give a column '{facts['kpi']}' for each customer, or events with a "
            f"timestamp. It has {', '.join(map(str, columns))}."
        )
    return _of_customers(_read(path), name=path.name, facts=facts, index=index), about


def _of_events(source: Source, *, facts: dict[str, Any], index: pd.Index) -> pd.Series:
    """The KPI counted from events within the window."""
    con = sources.connect()
    events = sources.read_events(source, con=con)
    start, end = date.fromisoformat(facts["start"]), date.fromisoformat(facts["end"]) + timedelta(days=1)
    span = events.aggregate(first=events.day.min(), last=events.day.max()).to_pandas().iloc[0]
    last = pd.Timestamp(span["last"]).date()
    if last < start:
        raise InputError(
            f"{source.name}: the outcomes end on {last}, before the treatment began on {start}. Give events of "
            f"the window."
        )
    if last < end - timedelta(days=LATE_DAYS + 1):
        raise InputError(
            f"{source.name}: the outcomes end on {last}, and the window runs to {facts['end']}. Looking early "
            f"finds effects "
            f"that are not there: wait for the end, or plan fewer --weeks next time."
        )
    days = build_days(events.filter(events.day < ibis.literal(end)), kinds=source.kinds, aggregate=False)
    values = kpi_values(days, kpi=facts["kpi"], start=start, window_days=int(facts["window_days"]), index=index)
    if not values.any():
        raise InputError(
            f"{source.name}: no outcome: none of the {len(index):,} customers of the pilot did anything from "
            f"{start} on. Are "
            f"the customer ids the same as in the run?"
        )
    return values


def _of_customers(table: pd.DataFrame, *, name: str, facts: dict[str, Any], index: pd.Index) -> pd.Series:
    """The KPI as a file gives it, a row for each customer, or for each customer and day."""
    kpi = facts["kpi"]
    values = pd.to_numeric(table[kpi], errors="coerce")
    bad = int((values.isna() | ~np.isfinite(values)).sum())
    if bad:
        raise InputError(
            f"{name}: {bad} of {len(table)} values of {kpi} are not numbers. Give zero for those who did nothing."
        )
    if kpi == "active" and not values.isin((0, 1)).all():
        raise InputError(f"{name}: active is 1 for customers who came and 0 for the others; other numbers are in it.")
    if "day" in table:
        _refuse_other_days(table["day"], name=name, facts=facts)
        by_customer = values.groupby(table["customer_id"]).agg("max" if kpi == "active" else "sum")
    elif table["customer_id"].duplicated().any():
        raise InputError(
            f"{name}: {int(table['customer_id'].duplicated().sum())} customers are there twice. Add them up."
        )
    else:
        by_customer = pd.Series(values.to_numpy(), index=table["customer_id"])
    missing = int((~index.isin(by_customer.index)).sum())
    if missing:
        raise InputError(
            f"{name}: no outcome for {missing:,} of the {len(index):,} customers of the pilot. Give every one a "
            f"row, with zero "
            f"for those who did nothing."
        )
    found = by_customer.reindex(index).astype(float).rename(KPIS[kpi].name)
    if not found.any():
        raise InputError(f"{name}: no outcome: {kpi} is zero for every customer of the pilot. Check the export.")
    return found


def _refuse_other_days(days: pd.Series, *, name: str, facts: dict[str, Any]) -> None:
    when = pd.to_datetime(days, errors="coerce")
    if when.isna().any():
        raise InputError(f"{name}: {int(when.isna().sum())} values of day are not dates. Write them as YYYY-MM-DD.")
    early = int((when < pd.Timestamp(facts["start"])).sum())
    late = int((when >= pd.Timestamp(facts["end"]) + pd.Timedelta(days=1)).sum())
    if early or late:
        where = (
            f"before the treatment began on {facts['start']}" if early else f"after the window ended on {facts['end']}"
        )
        raise InputError(f"{name}: {early or late} rows are dated {where}. Give the outcomes of the window only.")


def _as_source(path: Path, *, columns: list[str], facts: dict[str, Any]) -> Source:
    """A file of events with the contract's own column names, read as the run's source is."""
    mapped = {name: f'"{name}"' for name in columns if name in CONTRACT}
    text = {
        "name": path.stem,
        "timezone": facts["timezone"],
        "kinds": facts["kinds"],
        "events": [{"path": path.name, "columns": mapped}],
    }
    return parse_source(json.dumps(text), label=path.name, base=path.parent.resolve())


def _read(path: Path, *, rows: int | None = None) -> pd.DataFrame:
    """A table of outcomes; ids stay text as written."""
    try:
        if path.suffix in (".parquet", ".pq"):
            table = pd.read_parquet(path)
            return table.astype({"customer_id": str}) if "customer_id" in table else table
        return pd.read_csv(path, dtype={"customer_id": str, "day": str}, nrows=rows, keep_default_na=True)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name}: it cannot be read as a table ({str(error).splitlines()[0]}).") from None
