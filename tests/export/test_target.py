"""Each target against its written statement, and mappings of one's own."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from segkit.data.runs import open_run
from segkit.errors import InputError
from segkit.export.export import export_segments, write_files
from segkit.export.target import Target, list_targets, read_target

OWN = """\
name: own
file: own.csv
line_end: crlf
missing: unknown
any_of: [Mail]
columns:
  Mail: {field: email, form: [email]}
  Group: {field: segment, left: gone}
  Mobile: {field: phone, form: [phone, no_plus]}
"""


def test_every_target_states_its_format_and_when_it_was_read() -> None:
    assert set(list_targets()) >= {
        *("csv", "parquet", "database", "klaviyo", "hubspot", "salesforce", "braze"),
        *("google_customer_match", "meta_custom_audience"),
    }
    for name in list_targets():
        target = read_target(name)
        assert target.name == name and target.title and pd.Timestamp(target.read) and len(target.statement) > 80


@pytest.mark.parametrize(
    ("name", "headers", "limits", "line_end"),
    [
        ("klaviyo", ["Email", "Phone Number"], (0, 50), "\n"),
        ("hubspot", ["Email"], (1_048_575, 512), "\n"),
        ("salesforce", ["Segkit_Customer_Id__c"], (0, 100), "\n"),
        ("braze", ["external_id"], (0, 500), "\n"),
        ("google_customer_match", ["Email", "Phone"], (0, 0), "\n"),
        ("meta_custom_audience", ["email", "phone"], (0, 0), "\n"),
    ],
)
def test_targets_are_as_their_statements_state(
    name: str, headers: list[str], limits: tuple[int, float], line_end: str
) -> None:
    target = read_target(name)
    assert list(target.columns)[: len(headers)] == headers
    assert (target.max_rows, target.max_megabytes) == limits
    assert (target.encoding, target.line_end, target.format) == ("utf-8", line_end, "csv")
    assert set(target.unique) == set(headers)


def test_advertising_targets_hash_every_address() -> None:
    google, meta = read_target("google_customer_match"), read_target("meta_custom_audience")
    assert google.columns["Phone"].forms == ("phone", "sha256") and google.columns["Email"].forms == ("email", "sha256")
    assert meta.columns["phone"].forms == ("phone", "no_plus", "sha256") and meta.by_segment and google.by_segment


def test_a_target_of_ones_own_is_a_few_lines(
    make_run: Callable[..., Path], people: pd.DataFrame, tmp_path: Path
) -> None:
    (tmp_path / "own.yaml").write_text(OWN)
    people.loc[0, "mobile"] = ""
    made = export_segments(make_run(people), to=str(tmp_path / "own.yaml"), out=str(tmp_path / "out"))
    lines = (tmp_path / "out" / "own.csv").read_bytes().split(b"\r\n")
    assert lines[:3] == [
        b"Mail,Group,Mobile",
        b"ann.00@example.com,S01,unknown",
        b"ann.01@example.com,S01,4915112345601",
    ]
    assert len(made.rows) == 60


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: x\n", "the key 'columns' is missing. Add a field for each header"),
        ("name: x\ncolums: {}\ncolumns: {}\n", "unknown key 'colums'. Did you mean 'columns'"),
        (
            "name: x\ncolumns: {A: {form: email}}\n",
            "columns 'A': the key 'field' is missing. Add a field, such as segment",
        ),
        ("name: x\ncolumns: {A: {field: email, form: md5}}\n", "columns 'A': form 1: unknown form 'md5'. Known: email"),
        ("name: x\ncolumns: {A: segment}\nunique: [B]\n", "unique: there is no column 'B'. Known: A"),
        ("name: x\ncolumns: {A: segment}\nformat: xls\n", "format: unknown format 'xls'. Known: csv, parquet, table"),
        ("name: x\nformat: table\nchanged_only: true\ncolumns: {A: segment}\n", "updated as a whole"),
        (
            "name: x\nencoding: 7\ncolumns: {A: {field: [a]}}\n",
            "2 problems.*field: found .*, expected a field.*encoding: found 7",
        ),
        ("name: [\n", "not valid YAML"),
    ],
)
def test_a_mapping_that_means_nothing_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(InputError, match=words):
        read_target(str(tmp_path / "own.yaml"))


def test_files_are_split_at_the_limits_and_old_parts_go(tmp_path: Path) -> None:
    rows = pd.DataFrame({"a": [f"v{i:03d}" for i in range(10)]})
    segment = pd.Series("S01", index=rows.index)
    by_rows = Target(name="t", columns={"a": "segment"}, file="t.csv", max_rows=4)
    assert [count for _, count in write_files(rows, segment, target=by_rows, out=tmp_path)] == [4, 4, 2]
    assert sorted(path.name for path in tmp_path.glob("*.csv")) == ["t.csv", "t_2.csv", "t_3.csv"]
    by_size = Target(name="t", columns={"a": "segment"}, file="t.csv", max_megabytes=37e-6)
    written = write_files(rows, segment, target=by_size, out=tmp_path)
    assert [count for _, count in written] == [7, 3] and not (tmp_path / "t_3.csv").exists()
    assert all(path.stat().st_size <= 37 and path.read_text().startswith("a\n") for path, _ in written)


@pytest.mark.parametrize("out", ["", "t.csv", "*.csv"])
def test_files_of_the_user_stay(out: str, tmp_path: Path) -> None:
    mine = {tmp_path / name for name in ("t_2024-05-01.csv", "t_2023.csv", "t_1_archive.csv", "other.csv", "t_2.csv")}
    for path in mine:
        path.write_text("mine", encoding="utf-8")
    rows = pd.DataFrame({"a": ["v"]})
    target = Target(name="t", columns={"a": "segment"}, file="t.csv")
    for _ in range(2):
        write_files(rows, pd.Series("S01", index=rows.index), target=target, out=tmp_path / out)
    assert {path.read_text(encoding="utf-8") for path in mine} == {"mine"}


def test_nothing_is_written_into_the_folder_of_a_run(tmp_path: Path) -> None:
    run, rows = open_run(tmp_path / "run", source="shop", as_of="2024-01-01"), pd.DataFrame({"a": ["v"]})
    target = Target(name="t", columns={"a": "segment"}, file="t.csv")
    for out in (run.path, run.path / "tables" / "assignments.csv"):
        with pytest.raises(InputError, match="run is the folder of a run, which is read-only"):
            write_files(rows, pd.Series("S01", index=rows.index), target=target, out=out)


def test_nothing_to_export_is_a_file_with_its_header(tmp_path: Path) -> None:
    none = pd.DataFrame({"a": pd.Series(dtype=object)})
    write_files(
        none, pd.Series(dtype=object), target=Target(name="t", columns={"a": "segment"}, file="t.csv"), out=tmp_path
    )
    assert (tmp_path / "t.csv").read_text() == "a\n"
