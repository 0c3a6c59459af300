"""Bad data is read right, or refused in one message with status 2: no traceback, no wrong number, no half a report."""

import shutil
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit.cli import main
from segkit.data.sources import connect, count_rejected_rows, open_source, read_events
from segkit.errors import SourceError
from tests.guarantees.broken_sources import GOOD, KINDS, YAML, Right, put, text
from tests.guarantees.hashing import hashes

HEAVY = (
    "yaml_of_brackets",
    "two_hundred_files",
    "thousand_columns",
    "id_of_a_megabyte",
    "packed_last_line_of_40_megabytes",
    "utf_32",
)
EVERYDAY = 15  # of the kinds, one of so many runs each day; the others where slow tests do
THROUGH_RUN = (
    "file_is_a_picture",
    "parquet_overwritten",
    "yaml_that_unfolds",
    "last_line_of_40_megabytes",
    "time_on_no_day",
)
CELLS = st.text(st.characters(blacklist_characters="\n\r", blacklist_categories=["Cs"]), max_size=12)


def reading(yaml: Path) -> Right | str:
    """Read a source; return the message where it is refused."""
    con = connect()
    try:
        source = open_source(str(yaml))
        found = read_events(source, con=con)
        totals = found.aggregate(
            events=found.count(), customers=found.customer_id.nunique(), amount=found.amount.sum()
        ).execute()
        rejected = int(count_rejected_rows(source, con=con)["rows"].sum())
    except SourceError as error:
        return str(error)
    events, customers, amount = totals.iloc[0]
    return Right(int(events), int(customers), Decimal(amount or 0), rejected=rejected)


def cases() -> list:
    """The kinds; most are slow tests."""
    names = sorted(KINDS)
    often = {name for name in names[::EVERYDAY] if name not in HEAVY}
    return [pytest.param(name, marks=[] if name in often else pytest.mark.slow) for name in names]


def test_there_are_many_ways_to_break_a_source() -> None:
    assert len(KINDS) >= 90


@pytest.mark.parametrize("kind", cases())
def test_a_broken_source_is_read_right_or_refused(kind: str, tmp_path: Path) -> None:
    right = KINDS[kind](tmp_path)
    found = reading(tmp_path / "shop.yaml")
    if right is None:
        assert isinstance(found, str), f"read as {found}"
        assert 20 < len(found) < 2000 and "\n" not in found and "Error:" not in found.split("(")[0]
    else:
        assert found == right


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_command_reports_it_in_one_message(kind: str, tmp_path: Path) -> None:
    right = KINDS[kind](tmp_path)
    result = CliRunner().invoke(main, ["check", str(tmp_path / "shop.yaml")])
    assert result.exit_code == 2 and "Traceback" not in result.output, result.output  # too few customers, at the least
    assert result.stderr.count("\n") == (1 if right is None else 0), result.stderr
    assert result.stderr.isprintable() or result.stderr.rstrip("\n").isprintable() or "\u00a0" in result.stderr
    assert ("Can it carry a segmentation? no" in result.stdout) is (right is not None)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    lines=st.lists(st.tuples(CELLS, CELLS, CELLS, CELLS), max_size=6),
    sign=st.sampled_from(",;\t|"),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_any_cells_in_any_line_are_counted_or_the_file_is_refused(
    lines: list[tuple[str, str, str, str]], sign: str, end: str
) -> None:
    with TemporaryDirectory() as folder:
        put(Path(folder), text([*GOOD, *lines], sign=sign, end=end))
        found = reading(Path(folder) / "shop.yaml")
    if not isinstance(found, str) and not any(c in cell for line in lines for cell in line for c in f'{sign}"'):
        assert found.events + found.rejected == 12 + len(lines)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 600), junk=st.binary(min_size=1, max_size=20), cut=st.booleans())
def test_any_bytes_over_any_part_of_a_source_end_in_a_message(at: int, junk: bytes, cut: bool) -> None:
    with TemporaryDirectory() as folder:
        put(Path(folder), text(GOOD))
        for name in ("sales.csv", "shop.yaml"):
            whole = (Path(folder) / name).read_bytes()
            spoilt = whole[:at] + junk + (b"" if cut else whole[at + len(junk) :])
            (Path(folder) / name).write_bytes(spoilt)
            result = CliRunner().invoke(main, ["check", str(Path(folder) / "shop.yaml")])
            assert result.exit_code == 2 and "Traceback" not in result.output, result.output
            assert result.stderr.count("\n") <= 1
            (Path(folder) / name).write_bytes(whole)


@pytest.mark.slow
@pytest.mark.parametrize("kind", THROUGH_RUN)
def test_a_run_on_it_leaves_the_report_that_was_there(kind: str, whole_run: Path, tmp_path: Path) -> None:
    right = KINDS[kind](tmp_path)
    report = Path(shutil.copytree(whole_run, tmp_path / "reports" / "run"))
    before = hashes(report)
    result = CliRunner().invoke(main, ["run", "--source", str(tmp_path / "shop.yaml"), "--out", str(report)])
    assert result.exit_code == 2 and "Traceback" not in result.output and result.stdout == ""
    assert right is not None or result.stderr.count("\n") == 1
    left = [path.name for path in report.parent.glob("run.*")]
    assert hashes(report) == before and (left == [] or (right is not None and left == ["run.failed"]))


def test_a_good_source_is_read_as_it_is(tmp_path: Path) -> None:
    put(tmp_path, text(GOOD), yaml=YAML)
    assert reading(tmp_path / "shop.yaml") == Right(12, 5, Decimal(72))
