"""A source in whatever encoding, notation and kind of file is read as the values it was written from, or refused."""

import csv
import gzip
import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, Phase, assume, given, note, settings
from hypothesis import strategies as st

from segkit.data.sources import connect, open_source, read_events
from segkit.errors import SourceError

EVERY_DAY, ALL = 25, 300  # random sources
MIN_READ_SHARE = 0.25  # of the sources; a reader that refuses them all would be right too
COLUMNS = ["event_id", "customer_id", "order_id", "timestamp", "amount"]
PHASES = (Phase.explicit, Phase.generate)  # a failing example is small enough as it is
EAST = timezone(timedelta(hours=2))


def in_german(text: str) -> str:
    """Swap commas and points."""
    return text.translate(str.maketrans(",.", ".,"))


NUMBERS: dict[str, Callable[[Decimal], str]] = {
    "plain": lambda v: f"{v:.2f}",
    "short": lambda v: f"{v.normalize():f}",
    "comma": lambda v: in_german(f"{v:.2f}"),
    "short comma": lambda v: in_german(f"{v.normalize():f}"),
    "grouped": lambda v: f"{v:,.2f}",
    "grouped comma": lambda v: in_german(f"{v:,.2f}"),
    "spaced": lambda v: in_german(f"{v:,.2f}").replace(".", "\u00a0"),
    "swiss": lambda v: f"{v:,.2f}".replace(",", "'"),
    "signed": lambda v: f"${v:,.2f}",
    "signed comma": lambda v: f"{in_german(f'{v:,.2f}')} €",
    "three decimals": lambda v: f"{v:.3f}",
    "thousands": lambda v: f"{int(v):,}",  # the cents are cut off, in what is wanted too
    "thousands with points": lambda v: in_german(f"{int(v):,}"),
}
POINTS = ("plain", "short", "grouped", "swiss", "signed")
WHOLE = ("thousands", "thousands with points")
TIMES: dict[str, str] = {
    "iso": "%Y-%m-%d %H:%M:%S",
    "iso T": "%Y-%m-%dT%H:%M",
    "iso Z": "%Y-%m-%dT%H:%M:%SZ",
    "iso offset": "%Y-%m-%d %H:%M:%S+02:00",
    "iso pm": "%Y-%m-%d %I:%M:%S %p",
    "zone": "%Y-%m-%d %H:%M:%S EST",
    "german": "%d.%m.%Y %H:%M",
    "british": "%d/%m/%Y %H:%M:%S",
    "american": "%m/%d/%Y %I:%M %p",
    "short german": "%d.%m.%y %H:%M",
    "short iso": "%y-%m-%d %H:%M",
    "named": "%d %b %Y %H:%M",
    "named first": "%b %d, %Y %H:%M",
    "epoch": "epoch",
}
IDS: dict[str, Callable[[int], str]] = {
    "letters": lambda n: f"c{n}",
    "digits": lambda n: str(n),
    "zeros": lambda n: f"{n % 5:0{2 + n % 3}d}",
    "umlauts": lambda n: f"Jürgen SS{n}",
    "delimiters": lambda n: f'a;b,c|{n}"d',
    "exponents": lambda n: f"{n}E{n % 3}",
}


@dataclass(frozen=True)
class Written:
    """How a source is written; ``odd`` is the style of one row, where it differs."""

    kind: str
    encoding: str
    delimiter: str
    ids: str
    number: str
    time: str
    odd_number: str
    odd_time: str
    native: bool  # cells of Parquet files and workbooks are numbers and times


STYLES = st.builds(
    Written,
    kind=st.sampled_from(["csv", "csv", "csv", "txt", "csv.gz", "parquet", "xlsx"]),
    encoding=st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "cp1252"]),
    delimiter=st.sampled_from(",;\t|"),
    ids=st.sampled_from(sorted(IDS)),
    number=st.sampled_from(sorted(NUMBERS)),
    time=st.sampled_from(sorted(TIMES)),
    odd_number=st.sampled_from(["", "", "", *sorted(set(NUMBERS) - {*WHOLE, "three decimals"})]),
    odd_time=st.sampled_from(["", "", "", *sorted(TIMES)]),
    native=st.booleans(),
)


def is_in_doubt(style: Written) -> bool:
    """Return whether nobody could tell: 2.621 next to 7.25, or 08/12/2024 among months that come first."""
    as_text = not (style.native and style.kind in ("parquet", "xlsx"))
    points = style.number == "thousands with points" and style.odd_number in POINTS
    return as_text and (points or {style.time, style.odd_time} == {"american", "british"})


def values(seed: int) -> pd.DataFrame:
    """The values of a source: what a right reading gives."""
    rng = np.random.default_rng(seed)
    rows, top = int(rng.integers(1, 60)), int(rng.choice([300, 20_000, 900_000]))
    start = datetime(2023, int(rng.integers(1, 13)), int(rng.integers(1, 28)))
    days = int(rng.choice([5, 40, 700]))
    return pd.DataFrame(
        {
            "event_id": [f"e{n}" for n in range(rows)],
            "customer_id": rng.integers(0, 30, rows),
            "order_id": [f"o{n // 2}" for n in range(rows)],
            "timestamp": [start + timedelta(minutes=int(m)) for m in rng.integers(0, days * 1440, rows)],
            "amount": [Decimal(int(cents)) / 100 for cents in rng.integers(1, top, rows)],
        }
    )


def cells(wanted: pd.DataFrame, style: Written) -> pd.DataFrame:
    """The cells of a file, as text; the odd style is that of the last row."""
    last = len(wanted) - 1

    def number(row: int, value: Decimal) -> str:
        return NUMBERS[style.odd_number if row == last and style.odd_number else style.number](value)

    def time(row: int, value: datetime) -> str:
        form = TIMES[style.odd_time if row == last and style.odd_time else style.time]
        if form == "epoch":
            return str(int(value.replace(tzinfo=UTC).timestamp()))
        there = value.replace(tzinfo=UTC).astimezone(EAST) if "+02" in form else value
        return there.strftime(form)

    return wanted.assign(
        timestamp=[time(row, value.to_pydatetime()) for row, value in enumerate(wanted["timestamp"])],
        amount=[number(row, value) for row, value in enumerate(wanted["amount"])],
    )


def write(folder: Path, wanted: pd.DataFrame, style: Written) -> None:
    """Write a source and its YAML."""
    name, table = f"sales.{style.kind}", cells(wanted, style)
    if style.native:
        native = wanted.assign(amount=wanted["amount"].astype(float))
    if style.kind == "parquet":
        (native if style.native else table).to_parquet(folder / name)
    elif style.kind == "xlsx":
        (native if style.native else table).to_excel(folder / name, index=False)
    else:
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=style.delimiter).writerows([COLUMNS, *table.itertuples(index=False)])
        content = text.getvalue().encode(style.encoding, "replace")
        (folder / name).write_bytes(gzip.compress(content) if style.kind == "csv.gz" else content)
    stated = (
        {"encoding": style.encoding} if style.encoding == "cp1252" and style.kind.startswith(("csv", "txt")) else {}
    )
    source = {
        "name": "shop",
        "timezone": "UTC",
        "events": [{"path": name, **stated, "columns": {column: column for column in COLUMNS}}],
    }
    (folder / "shop.yaml").write_text(yaml.safe_dump(source), encoding="utf-8")


def wrong_rows(seed: int, style: Written) -> pd.DataFrame | None:
    """Write and read a source; return the rows that were read wrong, or None where it is refused."""
    wanted = values(seed)
    wanted["customer_id"] = [IDS[style.ids](int(n)) for n in wanted["customer_id"]]
    written_as_text = not (style.native and style.kind in ("parquet", "xlsx"))
    if written_as_text and style.number in WHOLE:
        keep = [row == len(wanted) - 1 and bool(style.odd_number) for row in range(len(wanted))]
        wanted["amount"] = wanted["amount"].where(keep, wanted["amount"].map(lambda v: Decimal(int(v))))
    with TemporaryDirectory() as folder:
        write(Path(folder), wanted, style)
        try:
            con = connect()
            read = read_events(open_source(str(Path(folder) / "shop.yaml")), con=con).to_pandas()
        except SourceError as error:
            note(str(error))
            return None
        con.disconnect()
    both = read.merge(wanted, on="event_id", how="left", suffixes=("", "_wanted"))
    assert len(read) <= len(wanted)
    same = (both["customer_id"] == both["customer_id_wanted"]) & (both["order_id"] == both["order_id_wanted"])
    same &= both["timestamp"].astype("datetime64[us]") == both["timestamp_wanted"].astype("datetime64[us]")
    same &= both["amount"].astype(float) == both["amount_wanted"].astype(float)
    return both[~same]


@pytest.mark.parametrize("sources", [EVERY_DAY, pytest.param(ALL, marks=pytest.mark.slow)], ids=["every day", "slow"])
def test_random_sources_are_read_as_they_were_written_or_refused(sources: int) -> None:
    read = []

    @settings(
        max_examples=sources,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        database=None,
        phases=PHASES,
    )
    @given(seed=st.integers(0, 10**6), style=STYLES)
    def check(seed: int, style: Written) -> None:
        assume(not is_in_doubt(style))
        wrong = wrong_rows(seed, style)
        read.append(wrong is not None)
        assert wrong is None or wrong.empty, wrong.to_string()

    check()
    assert np.mean(read) >= MIN_READ_SHARE
