"""Select who may be exported: consent, control groups, addresses, duplicates, the minimum group size."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from segkit.customers.profile import consent_columns, may_contact
from segkit.data.holdout import Holdout
from segkit.data.io import read_customer_csv
from segkit.data.runs import Run, load_run_privacy, open_run_source, source_ids
from segkit.data.sources import connect, read_customers
from segkit.errors import InputError, RunError
from segkit.export.target import (
    CONTACT_WORDS,
    FORECAST_FIELDS,
    NUMBER_FIELDS,
    RUN_FIELDS,
    VALUE_FORMS,
    Target,
    as_phone,
    as_text,
)
from segkit.format import FLOOR

SEGMENT_COLUMNS = ("segment_name", "level", "need_name", "action")  # of a segment, next to its id
ADDRESS_FORMS = ("email", "phone")  # forms of a customer's address
NOT_IN_RUN = "not in the run"  # in the source alone; not counted


@dataclass(frozen=True)
class People:
    """Hold the customers who may be exported.

    Parameters
    ----------
    rows
        Header -> text, by customer_id, sorted.
    segment
        Segment of each row; null for customers who left the run.
    left_out
        Reason -> customers.
    """

    rows: pd.DataFrame
    segment: pd.Series
    left_out: dict[str, int]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class CustomerRecords:
    """The columns of the customer table that an export reads: identifiers and consent, by customer_id."""

    table: pd.DataFrame | None
    roles: Mapping[str, str]

    def identifiers(self) -> list[str]:
        """Return the names of the identifier columns."""
        return sorted(name for name, role in self.roles.items() if role == "identifier")


def read_customer_records(run: Run, *, source: str = "", data_dir: str = "") -> CustomerRecords:
    """Read identifiers and consent from the source of a run at the time of the export; a run folder has none.

    `source`, `data_dir`: where the source is now; by default as the run was made.
    """
    opened = open_run_source(run, source=source, data_dir=data_dir, source_ids=True)
    people = read_customers(opened, con=connect())
    if people is None:
        return CustomerRecords(table=None, roles={})
    roles = {name: role for name, role in opened.roles.items() if role in ("identifier", "consent")}
    wanted = [name for name in people.columns if name == "customer_id" or name in roles]
    table = people.select(*wanted).to_pandas()
    return CustomerRecords(table=table.set_index("customer_id", drop=False).sort_index(), roles=roles)


def read_assignments(run: Run, *, source: str = "", data_dir: str = "") -> pd.DataFrame:
    """Read assignments, the texts of their segments and what is expected of each customer, by customer_id.

    Pseudonyms are mapped back to the ids of the source, which is read again. Erased customers, and those the source no
    longer has, are left out.

    `source`, `data_dir`: where the source is now; by default as the run was made.
    """
    assignments, segments = run.table("assignments"), run.table("segments").set_index("segment")
    assignments = assignments.join(_read_forecast(run), on="customer_id")
    if run.parameters().get("pseudonyms"):
        real_id_by_pseudonym = source_ids(run, open_run_source(run, source=source, data_dir=data_dir, source_ids=True))
        assignments = assignments.assign(customer_id=assignments["customer_id"].map(real_id_by_pseudonym)).dropna(
            subset="customer_id"
        )
    privacy = load_run_privacy(run)
    if privacy.lists:
        assignments = assignments[[not privacy.is_erased(each) for each in assignments["customer_id"]]]
    words = segments.rename(columns={"name": "segment_name"}).reindex(columns=list(SEGMENT_COLUMNS))
    currency = open_run_source(run, source=source, data_dir=data_dir).currency
    table = assignments.join(words, on="segment").assign(as_of=run.parameters()["as_of"], currency=currency or None)
    table["need_name"] = table["need_name"].where(table["need"].notna(), None)
    return table.set_index("customer_id", drop=False).sort_index()


def _read_forecast(run: Run) -> pd.DataFrame:
    """Read what is expected of each customer, by the ids of the run; money in cents, days as ISO text."""
    if not run.has("predictions"):
        return pd.DataFrame(columns=[*FORECAST_FIELDS, "expected_until"], dtype=object)
    table = run.table("predictions").set_index("customer_id")
    found = {}
    for name, column in FORECAST_FIELDS.items():
        values = table[column] if column in table else pd.Series(None, index=table.index, dtype=object)
        found[name] = values.round(2) if name in NUMBER_FIELDS else pd.to_datetime(values).dt.strftime("%Y-%m-%d")
    last_day = run.period.horizon_end - timedelta(days=1)
    return pd.DataFrame(found).assign(expected_until=last_day.isoformat())


def select_exportable(
    table: pd.DataFrame,
    records: CustomerRecords,
    *,
    target: Target,
    left: Iterable[str] = (),
    control_group: frozenset[str] = frozenset(),
    holdout: Holdout | None = None,
    named: Mapping[str, str] | None = None,
    country_code: str = "",
) -> People:
    """Select the rows that a target may have.

    Parameters
    ----------
    table
        The result of `read_assignments`.
    left
        Customers of the last export; those missing from `table` get the value the target has for them.
    holdout
        Of the whole programme; None if there is none.
    named
        Field of the target -> identifier column, where names do not match.
    country_code
        Default country code for phone numbers without one.
    """
    sources, notes = _available(target, records, named=named or {})
    inside = table.index
    everyone = inside if records.table is None else inside.union(records.table.index)
    everyone = everyone.union(pd.Index([each for each in left if each not in inside]))
    rows, invalid = _convert_values(
        table.reindex(everyone), target=target, sources=sources, records=records, code=country_code
    )
    notes += [
        f"{header}: {int(bad.sum()):,} values are not valid and are left blank"
        for header, bad in invalid.items()
        if bad.loc[inside].any() and not target.columns[header].required
    ]
    segment = table["segment"].reindex(everyone)
    with_left_value = (
        everyone.isin(left) if any(column.left is not None for column in target.columns.values()) else False
    )
    reasons = _contact_exclusions(everyone, records=records, control_group=control_group, holdout=holdout)
    shares = _shares_excluded_address(rows, target=target, excluded=reasons != "")
    reasons = _add_reason(reasons, shares, "shares an address with one of these")
    reasons = _add_reason(reasons, segment.isna() & ~with_left_value, NOT_IN_RUN)
    reasons = _target_exclusions(reasons, rows, invalid, target=target)
    grouped = segment.where(reasons == "").dropna()
    small = grouped[grouped.groupby(grouped).transform("size") < FLOOR]
    reasons = _add_reason(reasons, everyone.isin(small.index), f"in a group of fewer than {FLOOR}")
    allowed, counts = reasons == "", reasons[everyone.isin(inside)].value_counts().sort_index()
    if not consent_columns(records.roles):
        notes.append("the source has no column of consent: none was checked")
    return People(
        rows=rows[allowed],
        segment=segment[allowed],
        left_out={str(reason): int(count) for reason, count in counts.items() if reason},
        notes=tuple(notes),
    )


def read_control(pilot: str | Path) -> frozenset[str]:
    """Read the control group of a pilot: customer_id of its control.csv.

    Raises
    ------
    RunError
        The folder has no control.csv.
    InputError
        It has no column customer_id.
    """
    path = Path(pilot) / "control.csv"
    if not path.is_file():
        raise RunError(f"{pilot}: no control.csv there, so it is not the folder of a pilot.")
    return frozenset(read_customer_csv(path)["customer_id"])


def _available(
    target: Target, records: CustomerRecords, *, named: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Map each header of the target to the column it is read from; optional ones that the source lacks are dropped."""
    found, notes = {}, []
    for header, column in target.columns.items():
        source = column.field if column.field in RUN_FIELDS else _identifier(column.field, records, named=named)
        if source is not None:
            found[header] = source
            continue
        available = ", ".join(records.identifiers()) or "none"
        if column.required or set(target.any_of) == {header}:
            raise InputError(
                f"{target.name} needs {column.field}, and the source has no such identifier (it has {available}). "
                "Give a column of its customers the role identifier, or name it with "
                f"--identifier {column.field} COLUMN."
            )
        notes.append(f"{header} is left out: the source has no {column.field} (identifiers: {available})")
    if target.any_of and not set(found) & set(target.any_of):
        available = ", ".join(records.identifiers()) or "none"
        raise InputError(
            f"{target.name} needs {' or '.join(target.any_of)}, and the source has neither (identifiers: {available}). "
            "Give a column of its customers the role identifier."
        )
    return found, notes


def _identifier(field: str, records: CustomerRecords, *, named: Mapping[str, str]) -> str | None:
    """Find the identifier column of a field: the one given, one of its name, or one with a word for it in its name."""
    names = records.identifiers()
    if field in named:
        if named[field] not in names:
            available = ", ".join(names) or "none"
            raise InputError(
                f"--identifier {field} {named[field]}: not an identifier of the source. It has {available}."
            )
        return named[field]
    words = CONTACT_WORDS.get(field, ())
    return next((name for name in names if name == field or any(word in name.lower() for word in words)), None)


def _convert_values(
    table: pd.DataFrame, *, target: Target, sources: Mapping[str, str], records: CustomerRecords, code: str
) -> tuple[pd.DataFrame, dict[str, pd.Series]]:
    """Convert the values of each column to its form, and flag by header those that exist but are not valid."""
    rows, invalid = {}, {}
    for header, source in sources.items():
        column = target.columns[header]
        of_run = column.field in RUN_FIELDS
        raw = table[source] if of_run else records.table[source].reindex(table.index)
        raw = raw.map(as_text)
        if column.field == "customer_id":
            raw = pd.Series(table.index, index=table.index, dtype=object)
        elif of_run and column.field != "as_of" and column.left is not None:
            raw = raw.where(table["segment"].notna(), column.left)
        found = raw
        for form in column.forms:
            made = partial(as_phone, country_code=code) if form == "phone" else VALUE_FORMS[form]
            found = found.map(made, na_action="ignore")
        rows[header] = found.astype(object).where(found.notna(), None)
        invalid[header] = raw.notna() & found.isna()
    return pd.DataFrame(rows, index=table.index), invalid


def _contact_exclusions(
    everyone: pd.Index, *, records: CustomerRecords, control_group: frozenset[str], holdout: Holdout | None
) -> pd.Series:
    """Return why a customer must not be contacted with any target; empty if there is no reason."""
    reasons = pd.Series("", index=everyone, dtype=object)
    if holdout is not None:
        reasons = _add_reason(
            reasons, everyone.isin(holdout.members(everyone)), f"held out of the whole programme until {holdout.end}"
        )
    reasons = _add_reason(reasons, everyone.isin(control_group), "held out as control")
    return _add_reason(reasons, ~may_contact(records.table, roles=records.roles, index=everyone), "no consent")


def _target_exclusions(
    reasons: pd.Series, rows: pd.DataFrame, invalid: Mapping[str, pd.Series], *, target: Target
) -> pd.Series:
    """Add rows that the target cannot use: a required value is missing, not valid, or a duplicate."""
    for header, column in target.columns.items():
        if column.required:
            reasons = _add_reason(reasons, invalid[header], f"{header} not valid")
            reasons = _add_reason(reasons, rows[header].isna(), f"{header} missing")
    if target.any_of:
        address_headers = [header for header in target.any_of if header in rows]
        reasons = _add_reason(
            reasons, rows[address_headers].isna().all(axis=1), f"no valid {' or '.join(target.any_of)}"
        )
    for header in target.unique:
        if header in rows:
            values = rows[header].where(reasons == "")
            twice = values.notna() & values.duplicated(keep="first")
            reasons = _add_reason(reasons, twice, f"{header} of another customer too")
    return reasons


def _shares_excluded_address(rows: pd.DataFrame, *, target: Target, excluded: pd.Series) -> pd.Series:
    """Flag customers who share an address with an excluded one: a message to them would reach that one."""
    shares = pd.Series(False, index=rows.index)
    for header in rows:
        if set(target.columns[header].forms) & set(ADDRESS_FORMS):
            shares |= rows[header].isin(rows[header][excluded].dropna())
    return shares & ~excluded


def _add_reason(reasons: pd.Series, where: Any, reason: str) -> pd.Series:
    """Add a reason for customers who have none yet."""
    return reasons.mask((reasons == "") & where, reason)
