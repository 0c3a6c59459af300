"""Exports end to end: who gets out and who does not, in which form, and that nothing is half written."""

import csv
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from segkit.errors import InputError, RunError
from segkit.export.export import NOTHING_NEW, export_segments
from segkit.export.people import read_control
from segkit.export.target import as_sha256, read_target
from tests.export.conftest import WITHOUT_ADDRESS, WITHOUT_CONSENT

Make = Callable[..., Path]


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _ids(path: Path) -> set[str]:
    return {row["customer_id"] for row in _rows(path)}


def test_csv_holds_everyone_but_the_group_below_the_floor(make_run: Make, people: pd.DataFrame, tmp_path: Path) -> None:
    made = export_segments(make_run(people), to="csv", out=str(tmp_path / "out"))
    assert made.left_out == {"in a group of fewer than 20": 5}
    assert made.written == ((str(tmp_path / "out" / "csv.csv"), 60),)
    rows = _rows(tmp_path / "out" / "csv.csv")
    assert [row["customer_id"] for row in rows] == [f"c{i:02d}" for i in range(60)]
    segment = {"segment": "S02", "segment_name": "Line\nbreak", "macro_segment": "M1", "level": "Top"}
    segment |= {"need": "N01", "need_name": "bread", "action": "offer bread", "confidence": "0.75"}
    spend = {"expected_spend": "41.23", "expected_spend_low": "0", "expected_spend_high": "100", "currency": "EUR"}
    order = {"next_order": "2024-06-05", "next_order_from": "2024-06-02", "next_order_to": "2024-06-11"}
    dates = {"expected_until": "2024-08-30", "as_of": "2024-06-01"}
    assert rows[-1] == {"customer_id": "c59"} | segment | spend | order | dates
    assert (rows[0]["next_order"], rows[0]["expected_spend"]) == ("", "41.23")


def test_every_column_of_the_table_is_explained_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    for name in ("csv", "parquet"):
        assert not [header for header in read_target(name).columns if f"`{header}`" not in text]


def test_a_run_without_a_forecast_leaves_its_columns_empty(
    make_run: Make, people: pd.DataFrame, tmp_path: Path
) -> None:
    run = make_run(people)
    (run / "tables" / "predictions.parquet").unlink()
    export_segments(run, to="csv", out=str(tmp_path / "out"))
    row = _rows(tmp_path / "out" / "csv.csv")[0]
    assert {row[name] for name in row if name.startswith(("expected", "next_order"))} == {""}
    assert (row["segment"], row["action"]) == ("S01", "offer bread")


def test_commas_quotes_and_line_ends_come_back_and_formulas_do_not_run(
    make_run: Make, people: pd.DataFrame, tmp_path: Path
) -> None:
    export_segments(make_run(people), to="csv", out=str(tmp_path / "named.csv"))
    names = {row["segment_name"] for row in _rows(tmp_path / "named.csv")}
    assert names == {'\'=Big, "bold"', "Line\nbreak"}


def test_without_consent_no_export_and_silence_is_no_consent(
    make_run: Make, people: pd.DataFrame, tmp_path: Path
) -> None:
    people.loc[0:2, "ok"] = ["no", "", "perhaps"]
    for target in ("csv", "klaviyo", "google_customer_match", "braze"):
        made = export_segments(make_run(people), to=target, out=str(tmp_path), dry_run=True)
        assert made.left_out["no consent"] == 3 and "c00" not in made.rows.index and "c03" in made.rows.index


def test_a_source_without_consent_is_reported(make_run: Make, people: pd.DataFrame, tmp_path: Path) -> None:
    made = export_segments(make_run(people, source=WITHOUT_CONSENT), to="csv", out=str(tmp_path), dry_run=True)
    assert made.notes == ("the source has no column of consent: none was checked",) and len(made.rows) == 60


def test_control_groups_never_reach_a_channel(make_run: Make, people: pd.DataFrame, tmp_path: Path) -> None:
    people.loc[10, "mail"] = people.loc[4, "mail"]  # of a household: writing to one reaches the other
    for folder, held in (("one", "c03\nc04\n"), ("two", "c05\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "control.csv").write_text("customer_id\n" + held)
    pilots = (str(tmp_path / "one"), str(tmp_path / "two"))
    for target in ("klaviyo", "hubspot", "google_customer_match", "meta_custom_audience"):
        made = export_segments(make_run(people), to=target, out=str(tmp_path), pilots=pilots, dry_run=True)
        assert not {"c03", "c04", "c05", "c10"} & set(made.rows.index)
        assert made.left_out["held out as control"] == 3
        assert made.left_out["shares an address with one of these"] == 1


def test_someone_outside_the_run_without_consent_shields_their_address(
    make_run: Make, people: pd.DataFrame, tmp_path: Path
) -> None:
    people.loc[65, ["mail", "ok"]] = [people.loc[7, "mail"], "no"]
    made = export_segments(make_run(people), to="klaviyo", out=str(tmp_path), dry_run=True)
    assert made.left_out == {"in a group of fewer than 20": 5, "shares an address with one of these": 1}
    assert "c07" not in made.rows.index and "c65" not in made.rows.index


def test_addresses_that_are_missing_wrong_or_double(make_run: Make, people: pd.DataFrame, tmp_path: Path) -> None:
    people.loc[0:4, "mail"] = ["", "ann@", "=cmd@x", people.loc[5, "mail"].upper(), people.loc[5, "mail"]]
    people.loc[1, "mobile"] = "12"
    made = export_segments(make_run(people), to="hubspot", out=str(tmp_path), dry_run=True)
    left = {"Email missing": 1, "Email not valid": 2, "Email of another customer too": 2}
    assert made.left_out == left | {"in a group of fewer than 20": 5}
    either = export_segments(make_run(people), to="klaviyo", out=str(tmp_path), dry_run=True)
    assert either.left_out["no valid Email or Phone Number"] == 1
    assert either.rows.loc["c00", "Phone Number"] == "+4915112345600" and either.rows.loc["c00", "Email"] is None
    assert "Email: 2 values are not valid and are left blank" in either.notes


def test_ad_platforms_get_hashes_and_one_list_for_each_segment(
    make_run: Make, people: pd.DataFrame, tmp_path: Path
) -> None:
    run = make_run(people)
    export_segments(run, to="google_customer_match", out=str(tmp_path / "ads"))
    export_segments(run, to="meta_custom_audience", out=str(tmp_path / "ads"), segments=("S02",))
    found = sorted(path.name for path in (tmp_path / "ads").glob("*.csv"))
    google = ["google_customer_match_S01.csv", "google_customer_match_S02.csv"]
    assert found == [*google, "meta_custom_audience_S02.csv"]
    first = _rows(tmp_path / "ads" / google[0])[0]
    assert first == {"Email": as_sha256("ann.00@example.com"), "Phone": as_sha256("+4915112345600")}
    meta = _rows(tmp_path / "ads" / "meta_custom_audience_S02.csv")[0]
    assert meta == {"email": as_sha256("ann.30@example.com"), "phone": as_sha256("4915112345630")}


def test_changed_rows_only_and_what_left_is_reported(make_run: Make, people: pd.DataFrame, tmp_path: Path) -> None:
    old, new = make_run(people, name="old"), make_run(people, name="new", moved=3, less=8)
    out = str(tmp_path / "crm")
    first = export_segments(old, to="salesforce", out=out)
    assert len(first.rows) == 60 and "no earlier export is known here: every row counts as changed" in first.notes
    again = export_segments(old, to="salesforce", out=out)
    assert len(again.rows) == 0 and again.left_out["unchanged since the last export"] == 60
    then = export_segments(new, to="salesforce", out=out)
    moved, left = ["c00", "c01", "c02"], ["c57", "c58", "c59"]
    assert list(then.rows.index) == moved + left
    assert list(then.rows["Segkit_Segment__c"]) == ["S02"] * 3 + ["#N/A"] * 3
    assert len(export_segments(new, to="salesforce", out=out).rows) == 0
    since = export_segments(new, to="salesforce", out=str(tmp_path / "other"), since=str(old), dry_run=True)
    pd.testing.assert_frame_equal(since.rows, then.rows)


def test_where_nothing_changed_the_last_file_stays(make_run: Make, people: pd.DataFrame, tmp_path: Path) -> None:
    old, new = make_run(people, name="old"), make_run(people, name="new", moved=3, less=8)
    out, file = str(tmp_path / "crm"), tmp_path / "crm" / "braze.csv"
    export_segments(old, to="braze", out=out)
    export_segments(new, to="braze", out=out)
    before = file.read_bytes()
    assert [row["external_id"] for row in _rows(file)] == ["c00", "c01", "c02", "c57", "c58", "c59"]
    for _ in range(2):
        again = export_segments(new, to="braze", out=out)
        assert (len(again.rows), again.written, again.notes[-1]) == (0, (), NOTHING_NEW)
        assert file.read_bytes() == before
    export_segments(make_run(people, name="later", moved=5, less=8), to="braze", out=out)
    assert [row["external_id"] for row in _rows(file)] == ["c03", "c04"]


def test_who_takes_back_consent_goes_from_the_last_file_too(
    make_run: Make, people: pd.DataFrame, tmp_path: Path
) -> None:
    out, file = str(tmp_path / "crm"), tmp_path / "crm" / "hubspot.csv"
    export_segments(make_run(people), to="hubspot", out=out)
    people.loc[1, "ok"] = "no"
    then = export_segments(make_run(people), to="hubspot", out=out)
    assert len(then.rows) == 0 and then.written == ((str(file), 59),)
    assert "customers who may no longer be contacted (1)" in then.notes[-1]
    assert len(_rows(file)) == 59 and "ann.01@" not in file.read_text()
    assert export_segments(make_run(people), to="hubspot", out=out).written == ()


def test_a_dry_run_writes_nothing_and_shows_no_address(make_run: Make, people: pd.DataFrame, tmp_path: Path) -> None:
    made = export_segments(make_run(people), to="klaviyo", out=str(tmp_path / "out"), dry_run=True)
    assert not (tmp_path / "out").exists()
    text = str(made)
    assert "60 rows from 65 customers" in text and "a***@e***.com" in text and "nothing was written" in text
    assert "ann.0" not in text and "1234560" not in text


def test_an_export_that_fails_leaves_the_last_one(
    make_run: Make, people: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out = make_run(people), tmp_path / "out"
    export_segments(run, to="google_customer_match", out=str(out))
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    whole = Path.write_bytes

    def full_disk(path: Path, content: bytes) -> int:
        if "S02" in path.name:
            raise OSError(28, "No space left on device")
        return whole(path, content)

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    people["mail"] = "new" + people["mail"].str.strip()
    with pytest.raises(InputError, match="No space left on device.*Nothing was changed"):
        export_segments(make_run(people), to="google_customer_match", out=str(out))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"to": "mailchump"}, "--to mailchump: no such target. Known: braze, csv"),
        ({"to": "klavio"}, "Did you mean 'klaviyo'"),
        ({"to": "csv", "segments": ("S77",)}, "--segment S77: not in this run. It has S01, S02, S03"),
        ({"to": "csv", "out": "x.parquet"}, "csv is written as csv. End the name in .csv"),
        ({"to": "google_customer_match", "out": "x.csv"}, "one file for each segment. Give a folder"),
        (
            {"to": "klaviyo", "named": {"email": "maill"}},
            "not an identifier of the source. It has mail_address, mobile",
        ),
        ({"to": "klaviyo", "country_code": "+49"}, "digits only, such as 49"),
        ({"to": "klaviyo", "country_code": "999"}, "no country has this code"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    make_run: Make, people: pd.DataFrame, tmp_path: Path, options: dict, words: str
) -> None:
    with pytest.raises(InputError, match=words.replace("+", r"\+")):
        export_segments(make_run(people), **({"out": str(tmp_path / "out")} | options))
    assert not (tmp_path / "out").exists()


def test_a_file_that_no_export_wrote_stays(make_run: Make, people: pd.DataFrame, tmp_path: Path) -> None:
    run, mine = make_run(people), tmp_path / "mine.csv"
    mine.write_text("raw,lines\n", encoding="utf-8")
    with pytest.raises(InputError, match="no export wrote it"):
        export_segments(run, to="csv", out=str(mine))
    assert mine.read_text(encoding="utf-8") == "raw,lines\n" and not list(tmp_path.glob(".mine*"))
    mine.unlink()
    assert (
        export_segments(run, to="csv", out=str(mine)).written == export_segments(run, to="csv", out=str(mine)).written
    )


def test_a_source_without_addresses_cannot_fill_a_channel(make_run: Make, people: pd.DataFrame, tmp_path: Path) -> None:
    run = make_run(people, source=WITHOUT_ADDRESS)
    with pytest.raises(InputError, match="klaviyo needs Email or Phone Number, and the source has neither"):
        export_segments(run, to="klaviyo", out=str(tmp_path / "out"))
    with pytest.raises(InputError, match="hubspot needs email.*--identifier email COLUMN"):
        export_segments(run, to="hubspot", out=str(tmp_path / "out"))


def test_control_files_are_checked(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no control\.csv there"):
        read_control(tmp_path)
    (tmp_path / "control.csv").write_text("id\nc01\n")
    with pytest.raises(InputError, match="there is no column customer_id"):
        read_control(tmp_path)


def test_input_tables_are_unchanged_and_the_same_export_gives_the_same_bytes(
    make_run: Make, people: pd.DataFrame, tmp_path: Path
) -> None:
    run = make_run(people)
    for name in ("one", "two"):
        for target in ("csv", "parquet", "klaviyo"):
            export_segments(run, to=target, out=str(tmp_path / name))
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two and len([name for name in one if not name.startswith(".")]) == 4
    held = pd.read_parquet(tmp_path / "one" / "parquet.parquet")
    assert held["confidence"].dtype == float and list(held["segment_name"].unique()) == ['=Big, "bold"', "Line\nbreak"]
