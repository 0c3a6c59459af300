"""Who may be treated, how many the budget pays for, and in which order: expected return only where a read-out measured
it.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from segkit.actions.lift import ALPHA
from segkit.actions.verdict import Price
from segkit.data.plain import read_json
from segkit.data.spreadsheet import as_given
from segkit.errors import InputError
from segkit.small_groups import FLOOR

PILOT_FILES = ("treatment.csv", "control.csv")


def excluded_ids(places: tuple[str, ...]) -> set[str]:
    """The customers that other pilots hold, or that files list.

    Takes  pilot folders, or CSV files with a column customer_id

    Raises
    ------
    InputError : not there, or without customer_id
    """
    found: set[str] = set()
    for place in places:
        path = Path(place)
        files = [path / name for name in PILOT_FILES] if path.is_dir() else [path]
        missing = [file.name for file in files if not file.is_file()]
        if missing:
            raise InputError(
                f"--exclude {place}: no {' or '.join(missing)} there. Give a pilot's folder, or a CSV file."
            )
        for file in files:
            found |= set(read_ids(file)["customer_id"])
    return found


def read_ids(path: Path) -> pd.DataFrame:
    """A CSV with a column customer_id, all as text.

    Raises
    ------
    InputError : it cannot be read, or has no such column
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name}: it cannot be read as CSV ({str(error).splitlines()[0]}).") from None
    if "customer_id" not in table:
        raise InputError(f"{path.name}: there is no column customer_id. It has {', '.join(map(str, table.columns))}.")
    return table.assign(customer_id=table["customer_id"].map(as_given))


def measured_by(readout: str | Path, *, kpi: str) -> pd.DataFrame:
    """The lifts that a read-out measured.

    Takes  readout.json, or the folder that holds it

    Raises
    ------
    InputError : no read-out there, or one of another KPI
    """
    path = Path(readout)
    file = next((p for p in (path, path / "readout.json", path / "readout" / "readout.json") if p.is_file()), None)
    if file is None:
        raise InputError(f"--lift-from {readout}: no readout.json there. `segkit readout` writes one.")
    content = read_json(file)
    if content.get("kpi") != kpi:
        raise InputError(f"--lift-from {readout}: it read {content.get('kpi')}, and this pilot is of {kpi}.")
    table = pd.DataFrame(content["segments"]).set_index("segment")
    return table.astype({c: float for c in ("lift", "low", "high", "se", "df")})


def treated_shares(
    sizes: pd.Series, *, share_control: float, budget: float | None, price: Price, measured: pd.DataFrame | None
) -> dict[str, float]:
    """The share of each segment to treat: all but the held-out, or as many as the budget pays for.

    Takes  sizes: eligible customers by segment
    Gives  segment -> share. With a read-out the segments are paid for in the order of what a contact brought there, and
           those where it brought nothing are left out; without one all are thinned alike. Within a segment it is by
           lot.

    Raises
    ------
    InputError : a budget without the cost of a contact, or for fewer than the floor
    """
    full = {str(name): 1 - share_control for name in sizes.index}
    if measured is not None and price.is_complete:
        gain = (measured["lift"].reindex(sizes.index) * price.margin - price.contact_cost).fillna(0)
        full = {name: share if gain[name] > 0 else 0.0 for name, share in full.items()}
        order = gain.sort_values(ascending=False, kind="stable").index
    else:
        order = sizes.index
    if budget is None:
        return full
    if price.contact_cost is None or price.contact_cost <= 0:
        raise InputError("--budget: how many contacts it pays for needs --contact-cost above zero.")
    contacts = int(budget / price.contact_cost)
    wanted = sum(full[name] * sizes[name] for name in sizes.index)
    if contacts >= wanted:
        return full
    if measured is None:
        return {name: share * contacts / wanted for name, share in full.items()}
    left, shares = float(contacts), {}
    for name in order:
        taken = min(full[name] * sizes[name], left)
        shares[name] = taken / sizes[name] if taken >= FLOOR else 0.0
        left -= taken if taken >= FLOOR else 0.0
    return shares


def ranked(treated: pd.DataFrame, *, value: pd.Series, measured: pd.DataFrame | None, price: Price) -> pd.DataFrame:
    """The customers to contact, the first first: by measured return of their segment, then by what they are worth now.

    Takes  treated: by customer_id; segment; value: what each did before (the KPI over the lookback)
    Gives  rank, customer_id, segment, value_at_stake, expected_return, expected_low, expected_high (per contact, after
           its cost; null where nothing measured it)
    """
    table = treated[["segment"]].assign(value_at_stake=value.reindex(treated.index).round(2))
    for name, column in {"expected_return": "lift", "expected_low": "low", "expected_high": "high"}.items():
        if measured is not None and price.is_complete:
            per_contact = measured[column] * price.margin - price.contact_cost
            table[name] = table["segment"].map(per_contact).astype(float).round(4)
        else:
            table[name] = np.nan
    table = table.rename_axis("customer_id").reset_index()
    keys = ["expected_return", "value_at_stake", "customer_id"]
    table = table.sort_values(keys, ascending=[False, False, True], na_position="last", ignore_index=True)
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    return table


def expected_total(treated: pd.Series, *, measured: pd.DataFrame | None, price: Price) -> dict[str, Any]:
    """What contacting the list should bring after its cost, with a 95 % interval; nulls and the reason where none can
    be stated.

    Takes  treated: contacts by segment
    """
    nothing = {"value": None, "low": None, "high": None}
    if measured is None:
        return {**nothing, "reason": "no return can be stated: no read-out was given (--lift-from)"}
    if not price.is_complete:
        return {**nothing, "reason": "no return can be stated: it needs --contact-cost and --margin"}
    treated_counts = treated[treated > 0]
    unknown = sorted(set(treated_counts.index) - set(measured.index))
    if unknown:
        return {**nothing, "reason": f"no return can be stated: the read-out did not measure {', '.join(unknown)}"}
    table = measured.loc[treated_counts.index]
    middle = float((treated_counts * (table["lift"] * price.margin - price.contact_cost)).sum())
    se = float(np.sqrt(((treated_counts * price.margin * table["se"]) ** 2).sum()))
    half = float(stats.t.ppf(1 - ALPHA / 2, max(table["df"].min(), 1.0))) * se
    return {
        "value": middle,
        "low": middle - half,
        "high": middle + half,
        "reason": "from the lifts of the read-out given",
    }
