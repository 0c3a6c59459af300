"""Any value in a live line is read as the batch reads it in a cell: the same event, or rejected by both."""

import json
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from segkit.data.sources import connect, open_source, read_events
from segkit.errors import InputError, SourceError
from segkit.live.customer import make_feature_plan, money_units
from segkit.live.engine import _read_event, read_line

EVERY_DAY, ALL = 12, 300  # random files
GOOD_ROWS, ODD_ROWS = 60, 12
OPTIONAL = ("order_id", "amount", "quantity", "category", "channel", "private_label")
COLUMNS = ("event_id", "customer_id", "timestamp", *OPTIONAL)
PLAN = make_feature_plan(OPTIONAL, kinds={"purchase": "customer"})
NATIVE = {
    "timestamp",
    "customer_id",
    "order_id",
    "amount",
    "quantity",
    "category",
    "channel",
}  # may be columns of numbers
NO_VALUES = ["", " ", "NaN", "nan", "None", "null", "N/A", "-", "nil", "NaT", "<NA>", "#N/A", "#DIV/0!", None]
NUMBERS = ["inf", "-Infinity", "1_0", " 10 ", "1e3", "1E2", "1e-3", "+5", "-0", "-1", "-0.00001", "-0.00005", "00012"]
NUMBERS += [".5", "5.", "0x10", "true", "1.00005", "1.00004999", "0.00005", "9999999999", "9999999999.99999", "1e10"]
NUMBERS += ["10000000000", "1e400", "12345678901234567890", "10.0", "\u0663", "\uff15", "1.2.3", "--1"]
IDS = ["007", "7", "7.0", "7.50", "007.00", "1E5", "true", "10\n", "\t10", "1\t0", "\u00a010"]
ROUNDED = ["1e+17", "1.23457E+11", "1E+2"]  # in the batch the whole file is refused
IDS += ["\u200b10", "\ufeffx", "a b", "x" * 300, "ä", "a\u0308", "C1", "c1", "2024-03-05", "汤", "\u3000z", "-", "- "]
FLAGS = ["true", "FALSE", " yes ", "n", "1", "0", "1.0", "private", "brand"]
TIMES = ["2024-03-05T10:00:00+02:00", "2024-03-31 01:30:00", "2024-02-29", "2024-12-31T23:59:59.999999Z", "1969-12-31"]
TIMES += ["2101-01-01", "2024-02-30", "soon", "2024-03-05T24:00:00", "2024-03-05T10:00:60", "0001-01-01", "9999-12-31"]
TIMES += ["2024-03-05T10:00:00-00:30", " 2024-03-05 ", "2024-03-05T10:00:00 Z", "2024-3-5", "2024-W10-2", "20240305"]
TIMES += ["2024-03-05T10", "2024-03-05 10:00:00 EST", "2024-03-05T10:00:00+0200", "2024-03-05x10:00:00", "2024-065"]
TIMES += ["1970-01-01T12:00:00Z", "1970-01-02T00:00:00Z", "2100-12-30T23:00:00Z", "2100-12-31T01:00:00Z", "2024-03"]
TIMES += ["2024-03-05 9:00", "2024-03-05 09:00:00.1234567", "2024-03-05T10:00:00,5", "2024-03-05T10:00:00 UTC", "10:00"]
TIMES += ["2024-03-05T24:00:01", "2024-03-05T24:00", "2024-03-05  10:00:00", "2024-03-05T10:00:00.Z", "2024-03-05T"]
TIMES += [
    "2024-3-5T9:05:01",
    "2024-03-05Z",
    "2024-03-05T10:00:00-14:59",
    "2024-03-05T10:0:0",
    "2024/03/05",
    "2024.03.05",
]
TIMES += [
    "2024-03-05T10:00Z",
    "2024-03-05T10:00+02:00",
    "2024-03-05T23:59:59z",
    "2024-03-05T22:30:00.5-03",
    "2024/3-05",
]
MOMENTS = [1709632800, 1709632800.5, 1709632800000, 1709632800000000, 1.7e18, 20240305, 0, -1, 1e8, 1e30, 5, 20241305]
TEXTS = {
    "customer_id": IDS + NUMBERS,
    "order_id": IDS + NUMBERS,
    "amount": NUMBERS,
    "quantity": NUMBERS,
    "category": IDS + NUMBERS,
    "channel": IDS + NUMBERS,
    "private_label": FLAGS,
    "timestamp": TIMES,
}
FLOATS = st.one_of(
    st.sampled_from([0.0, -0.0, 1e-5, 5e-5, 1.00005, 0.12345, 2.675, 1e10, 1e17, 1e22, 10.0, -1e-9, -5e-5, math.inf]),
    st.integers(0, 10**9).map(float),
    st.integers(0, 10**8).map(lambda n: n / 10**4),  # half of the fifth decimal is lost in a float
    st.floats(0, 1e9, width=32),
    st.just(math.nan),
)


@st.composite
def odd_values(draw: st.DrawFn) -> tuple[str, bool, list[Any]]:
    """A column, whether it holds numbers in the batch, and odd values of it."""
    column = draw(st.sampled_from(sorted(TEXTS)))
    native = column in NATIVE and draw(st.booleans())
    none = [value for value in NO_VALUES if column != "private_label" or not str(value).startswith("#")]
    texts = st.sampled_from([*TEXTS[column], *none])
    values = texts if not native else FLOATS if column != "timestamp" else st.sampled_from(MOMENTS).map(float)
    return column, native, draw(st.lists(values, min_size=ODD_ROWS, max_size=ODD_ROWS))


def rows_with(column: str, values: list[Any], *, native: bool) -> list[dict[str, Any]]:
    """Plain rows, and one for each odd value."""
    plain = {"order_id": "o1", "amount": "12.5", "quantity": "2", "category": "tea", "channel": "web"}
    plain |= {"private_label": "true", "timestamp": "2024-03-02 10:00:00"}
    rows = [plain | {"event_id": f"e{n}", "customer_id": f"c{n % 7}"} for n in range(GOOD_ROWS + len(values))]
    if native:
        rows = [row | {column: 1709283600.0 if column == "timestamp" else 12.5} for row in rows]
    for row, value in zip(rows[GOOD_ROWS:], values, strict=True):
        row[column] = value
    return rows


def in_batch(rows: list[dict[str, Any]]) -> dict[str, tuple]:
    """What a source of these rows gives, by event."""
    with TemporaryDirectory() as folder:
        pq.write_table(
            pa.table({name: pa.array([row[name] for row in rows]) for name in COLUMNS}), f"{folder}/s.parquet"
        )
        table = {"path": "s.parquet", "columns": {name: name for name in COLUMNS}}
        source = {"name": "shop", "timezone": "UTC", "allow_set_aside": 1.0, "events": [table]}
        Path(folder, "s.yaml").write_text(yaml.safe_dump(source))
        con = connect()
        events = read_events(open_source(f"{folder}/s.yaml"), con=con).to_pandas()
        con.disconnect()
    return {row["event_id"]: _comparable(row) for row in events.to_dict("records")}


def live(rows: list[dict[str, Any]]) -> dict[str, tuple]:
    """What live lines of these rows give, by event."""
    found = {}
    for row in rows:
        try:
            event = _read_event(read_line(json.dumps(row)), plan=PLAN)
        except InputError:
            continue
        values = {name: event.values.get(name) for name in OPTIONAL}
        day = pd.Timestamp("1970-01-01") + pd.Timedelta(days=event.day)
        found[event.event_id] = _comparable(values | {"customer_id": event.customer_id, "day": day})
    return found


def _comparable(row: dict[str, Any]) -> tuple:
    filled = {name: None if value is None or pd.isna(value) else value for name, value in row.items()}
    money = [None if filled[name] is None else money_units(filled[name]) for name in ("amount", "quantity")]
    flag = filled["private_label"]
    texts = [filled[name] for name in ("customer_id", "order_id", "category", "channel")]
    return (*texts, str(pd.Timestamp(filled["day"]).date()), *money, None if flag is None else bool(flag))


@pytest.mark.parametrize("files", [EVERY_DAY, pytest.param(ALL, marks=pytest.mark.slow)], ids=["every day", "slow"])
def test_a_line_is_read_as_the_cells_of_a_source_or_rejected_by_both(files: int) -> None:
    @settings(
        max_examples=files,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate),
    )
    @given(odd_values())
    def check(drawn: tuple[str, bool, list[Any]]) -> None:
        column, native, values = drawn
        rows = rows_with(column, values, native=native)
        wanted, found = in_batch(rows), live(rows)
        for row in rows:
            name = row["event_id"]
            assert found.get(name) == wanted.get(name), (column, row[column])

    check()


@pytest.mark.parametrize("name", ["customer_id", "order_id"])
@pytest.mark.parametrize("value", ROUNDED)
def test_an_id_that_a_spreadsheet_rounded_is_refused_by_both(name: str, value: str) -> None:
    rows = rows_with(name, [value], native=False)
    with pytest.raises(SourceError, match="rounded by a spreadsheet"):
        in_batch(rows)
    with pytest.raises(InputError, match="rounded by a spreadsheet"):
        _read_event(rows[-1], plan=PLAN)
