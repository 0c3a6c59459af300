"""A customer can be erased: no file of a run, pilot or state contains their id afterwards, later work excludes them."""

import fcntl
import hashlib
import io
import json
import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from segkit import erasure
from segkit.cli import main
from segkit.data import io as file_io
from segkit.data.privacy import ERASURE_FILE, KEY_FILE, KEY_VARIABLE, add_to_erasure_list, load_privacy
from segkit.data.runs import Run, load_run, open_run_source
from segkit.data.sources import connect, read_customers, read_events
from segkit.erasure import erase
from segkit.errors import RunError
from segkit.live.engine import Live
from segkit.live.stream import run_live
from segkit.notebook import chain
from segkit.segments.lineage import previous_run
from tests.live.conftest import purchase, small_run  # noqa: F401  fixtures
from tests.live.live_runs import as_sent


@pytest.fixture
def reports(whole_run: Path, tmp_path: Path) -> Path:
    """Return a folder with the run of the made-up shop."""
    folder = tmp_path / "reports" / "shop"
    folder.mkdir(parents=True)
    shutil.copytree(whole_run, folder / "run")
    return folder.parent


@pytest.fixture
def gone(reports: Path) -> list[str]:
    """Two customers of the largest segment, of whom something is known."""
    run = load_run(reports / "shop" / "run")
    assignments = run.table("assignments")
    assignments = assignments[assignments["customer_id"].isin(run.table("people")["customer_id"])]
    largest = assignments["segment"].value_counts().idxmax()
    return assignments.loc[assignments["segment"] == largest, "customer_id"].head(2).tolist()


@pytest.fixture
def few(small_run: tuple[Run, Any], tmp_path: Path) -> Path:  # noqa: F811
    """A folder of runs with one of 30 customers, made in a moment."""
    return Path(shutil.copytree(small_run[0].path, tmp_path / "few" / "run")).parent


@pytest.fixture
def left(few: Path) -> list[str]:
    """Two customers of it."""
    return load_run(few / "run").table("assignments")["customer_id"].head(2).tolist()


@pytest.fixture
def outcomes(tmp_path: Path, reports: Path) -> Path:
    """Spend of every customer of the run."""
    people = load_run(reports / "shop" / "run").table("assignments")[["customer_id"]]
    people.assign(spend=[10.0 + number % 7 for number in range(len(people))]).to_csv(
        tmp_path / "outcomes.csv", index=False
    )
    return tmp_path / "outcomes.csv"


def _answer(*arguments: str) -> Any:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def _files_with(root: Path, ids: list[str]) -> list[str]:
    """Files with an id in them, tables unpacked."""
    found = []
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if path.suffix == ".parquet":
            content = pd.read_parquet(io.BytesIO(content)).to_csv().encode()
        if any(customer_id.encode() in content for customer_id in ids):
            found.append(str(path.relative_to(root)))
    return found


def _tree(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _draw_pilot(reports: Path) -> Path:
    run = reports / "shop" / "run"
    largest = load_run(run).table("assignments")["segment"].value_counts().idxmax()
    assert _answer("pilot", run, "--segment", largest).exit_code == 0
    return next((reports / "shop" / "pilots").iterdir())


@pytest.mark.slow
def test_no_table_has_the_customer_and_the_others_are_unchanged(reports: Path, gone: list[str]) -> None:
    run = load_run(reports / "shop" / "run")
    before = {path.stem: pd.read_parquet(path) for path in erasure.table_paths(run)}
    assert _files_with(reports, gone)
    answer = _answer("forget", *gone, "--reports", reports)
    assert answer.exit_code == 0, answer.output
    assert "shop/run: 2 removed" in answer.stdout and "Out of reach" in answer.stdout
    assert not [customer_id for customer_id in gone if customer_id in answer.stdout]
    assert _files_with(reports, gone) == []
    for name, table in before.items():
        expected = table[~table["customer_id"].isin(gone)].reset_index(drop=True) if "customer_id" in table else table
        pd.testing.assert_frame_equal(run.table(name), expected)
    assert (run.record()["forgotten"]["customers"], run.record()["outcome"]) == (2, "done")


def test_list_has_keyed_hashes_and_its_key_is_for_its_owner_only(few: Path, left: list[str]) -> None:
    erase(left, reports=few)
    stored = json.loads((few / ERASURE_FILE).read_text())
    assert len(stored["marks"]) == 2 and set(stored) == {"key", "marks"}
    assert hashlib.sha256(left[0].encode()).hexdigest() not in stored["marks"], "without the key nobody can try ids"
    assert stat.S_IMODE((few / KEY_FILE).stat().st_mode) == 0o600
    privacy = load_privacy(few / "run")
    assert [privacy.is_erased(customer_id) for customer_id in (*left, "another")] == [True, True, False]


def test_lost_key_stops_instead_of_showing_them_again(
    reports: Path, gone: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_to_erasure_list(reports, gone)
    monkeypatch.setenv(KEY_VARIABLE, "another key of enough length")
    with pytest.raises(RunError, match="needs the key it was made with, and another key is there now"):
        open_run_source(load_run(reports / "shop" / "run"))
    monkeypatch.delenv(KEY_VARIABLE)
    (reports / KEY_FILE).unlink()
    with pytest.raises(RunError, match="there is no key now. Restore segkit.key"):
        open_run_source(load_run(reports / "shop" / "run"))


def test_a_list_that_cannot_be_read_stops_everything(few: Path, left: list[str]) -> None:
    erase(left, reports=few)
    for content in ("{", "[]", '{"marks": 3}'):
        (few / ERASURE_FILE).write_text(content)
        with pytest.raises(RunError, match=r"this erasure list cannot be read.*Restore the file"):
            load_privacy(few / "run")


def test_unknown_customer_is_named_and_nothing_changes(few: Path, left: list[str]) -> None:
    before = _tree(few)
    answer = _answer("forget", left[0], "nobody", "no-one", "--reports", few)
    assert answer.exit_code == 2
    assert "no-one, nobody: not found" in answer.stderr and "(of 3 given)" in answer.stderr
    assert left[0] not in answer.stderr
    assert _tree(few) == before


def test_erasing_twice_is_no_error(few: Path, left: list[str]) -> None:
    erase(left, reports=few)
    before = _tree(few)
    assert "2 customers are erased" in "\n".join(erase(left, reports=few))
    assert _tree(few) == before


@pytest.mark.slow
@pytest.mark.parametrize("written", [1, 9])
def test_an_interrupted_erasure_can_be_repeated(
    reports: Path, gone: list[str], outcomes: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    pilot, left, real = _draw_pilot(reports), [written], os.replace

    def replace(*paths: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        real(*paths)

    monkeypatch.setattr(file_io.os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        erase(gone, reports=reports)
    monkeypatch.setattr(file_io.os, "replace", real)
    for path in erasure.table_paths(load_run(reports / "shop" / "run")):
        pd.read_parquet(path)  # whole, before or after
    erase(gone, reports=reports)
    assert _files_with(reports, gone) == []
    assert load_run(reports / "shop" / "run").record()["forgotten"]["customers"] == 2
    answer = _answer("readout", pilot, outcomes)
    assert answer.exit_code == 0, answer.output
    assert "2 customers were erased on request since the draw" in answer.stdout


@pytest.mark.parametrize("written", range(8))
def test_an_erasure_interrupted_at_any_file_can_be_repeated(
    few: Path, left: list[str], monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    allowed, real = [written], os.replace

    def replace(*paths: Any) -> None:
        allowed[0] -= 1
        if allowed[0] < 0:
            raise KeyboardInterrupt
        real(*paths)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(file_io.os, "replace", replace)
        erase(left, reports=few)
    erase(left, reports=few)
    assert _files_with(few, left) == []
    entry = load_run(few / "run").record()["forgotten"]
    assert (entry["customers"], entry["pending"]) == (2, 0)


@pytest.mark.slow
def test_read_out_still_works_and_reports_how_many(reports: Path, gone: list[str], outcomes: Path) -> None:
    pilot = _draw_pilot(reports)
    people = len(pd.read_parquet(pilot / "units.parquet"))
    erase(gone, reports=reports)
    answer = _answer("readout", reports / "shop" / "run", outcomes)  # found by the run it was drawn from
    assert answer.exit_code == 0, answer.output
    assert "2 customers were erased on request since the draw" in answer.stdout
    assert "2 customers were erased on request" in (pilot / "readout" / "readout.html").read_text()
    assert len(pd.read_parquet(pilot / "units.parquet")) == people - 2


@pytest.mark.slow
def test_design_that_was_changed_is_still_refused(reports: Path, gone: list[str], outcomes: Path) -> None:
    pilot = _draw_pilot(reports)
    units = pd.read_parquet(pilot / "units.parquet")
    units.assign(arm=units["arm"].iloc[::-1].to_numpy()).to_parquet(pilot / "units.parquet", index=False)
    erase(gone, reports=reports)
    assert _files_with(reports, gone) == []
    answer = _answer("readout", pilot, outcomes)
    assert answer.exit_code == 2 and "changed after the draw" in answer.stderr


def test_source_of_later_runs_excludes_them(reports: Path, gone: list[str]) -> None:
    run = load_run(reports / "shop" / "run")
    ids = {table: set(_ids(run, table)) for table in ("events", "customers")}
    assert all(set(gone) <= found for found in ids.values())
    add_to_erasure_list(reports, gone)
    assert all(set(_ids(run, name)) == found - set(gone) for name, found in ids.items())


def _ids(run: Run, what: str) -> list[str]:
    read = {"events": read_events, "customers": read_customers}[what]
    return (
        read(open_run_source(run), con=connect()).select("customer_id").distinct().to_pandas()["customer_id"].tolist()
    )


@pytest.mark.slow
def test_assignments_and_exports_exclude_them(
    reports: Path, gone: list[str], made_up_company: Path, tmp_path: Path
) -> None:
    run = reports / "shop" / "run"
    backup = (run / "tables" / "assignments.parquet").read_bytes()
    erase(gone, reports=reports)
    (run / "tables" / "assignments.parquet").write_bytes(backup)  # a copy comes back: the list still holds
    for to, out in (("place", "placed.csv"), ("export", "out.csv")):
        given = [made_up_company] if to == "place" else ["--to", "csv"]
        answer = _answer(to, run, *given, "--out", tmp_path / out)
        assert answer.exit_code == 0, answer.output
        assert not set(pd.read_csv(tmp_path / out)["customer_id"]) & set(gone)


def test_files_of_the_user_with_an_id_are_listed(few: Path, left: list[str]) -> None:
    (few / "mail.csv").write_text(f"customer_id,mail\n{left[0]},a@b.de\n")
    (few / "note.txt").write_text(f"call {left[1]} back")
    (few / "other.txt").write_text(f"about {left[1]}0, someone else")
    report = "\n".join(erase(left, reports=few))
    assert "still contain an id: mail.csv, note.txt. Delete" in report
    assert left[0] in (few / "mail.csv").read_text(), "files of the user are not changed"


def test_a_run_being_built_stops_it(few: Path, left: list[str]) -> None:
    before = _tree(few)
    with (few / ".run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        answer = _answer("forget", *left, "--reports", few)
    assert answer.exit_code == 2 and "another process is working there. Nothing was changed" in answer.stderr
    (few / ".run.lock").unlink()
    assert _tree(few) == before


def test_live_state_contains_nothing_of_them_and_accepts_nothing(
    small_run: tuple[Run, Any],  # noqa: F811
    tmp_path: Path,
    purchase: Callable[..., dict[str, Any]],  # noqa: F811
) -> None:
    run = Run(Path(shutil.copytree(small_run[0].path, tmp_path / "reports" / "run")))
    events = [as_sent(row) for row in small_run[1].rows]
    customer = events[0]["customer_id"]
    lines = [json.dumps(event).encode() for event in events]
    lines += [b'{"broken": "%s"' % customer.encode(), json.dumps(purchase("later", customer, "2031-01-01")).encode()]
    run_live(str(run.path), source=io.BytesIO(b"\n".join(lines)), out=io.BytesIO())
    assert "run.live/state.sqlite" in "\n".join(_files_with(tmp_path / "reports", [customer]))
    with Live(run.path) as live:
        before, last = live.state.counts(), live.last_change
    erase([customer], reports=tmp_path / "reports")
    assert _files_with(tmp_path / "reports", [customer]) == [], (
        "including freed pages, the log and the file of rejected lines"
    )
    with Live(run.path) as live:
        counts = live.state.counts()
        assert counts["events"] < before["events"] and counts["parked"] < before["parked"]
        assert live.last_change == last, "numbers of changes are never reused"
        assert live.feed(purchase("again", customer, "2024-06-01")) == [] and live.state.counts() == counts
        assert customer not in live.customers() and live.segment(customer) is None
    bad = {**purchase("bad", customer, "2024-06-01"), "event": "nonsense"}
    run_live(str(run.path), source=io.BytesIO(json.dumps(bad).encode()), out=io.BytesIO())
    assert _files_with(tmp_path / "reports", [customer]) == []


def test_state_in_use_is_left_alone(small_run: tuple[Run, Any], tmp_path: Path) -> None:  # noqa: F811
    run = Run(Path(shutil.copytree(small_run[0].path, tmp_path / "reports" / "run")))
    customer = run.table("assignments")["customer_id"].iloc[0]
    with Live(run.path), pytest.raises(RunError, match="another process is working there. Nothing was changed"):
        erase([customer], reports=tmp_path / "reports")
    erase([customer], reports=tmp_path / "reports")
    with sqlite3.connect(tmp_path / "reports" / "run.live" / "state.sqlite") as con:
        assert con.execute("pragma integrity_check").fetchone() == ("ok",)


@pytest.mark.slow
def test_next_run_excludes_them(reports: Path, gone: list[str], made_up_company: Path) -> None:
    erase(gone, reports=reports)
    out = reports / "shop" / "next"
    answer = _answer("run", "--source", made_up_company, "--out", out, "--steps", "01-03", "--previous", "none")
    assert answer.exit_code == 0, answer.output
    assert _files_with(out, gone) == []
    before, now = (len(load_run(reports / "shop" / name).table("features")) for name in ("run", "next"))
    assert now == before


def _shop(folder: Path, run: Run) -> Run:
    return Run(Path(shutil.copytree(run.path, folder / "run")))


def test_a_run_behind_a_link_is_erased_and_its_customers_do_not_come_back(
    shop: Path, shop_run: Run, tmp_path: Path
) -> None:
    other, reports = tmp_path / "other disk" / "shop", tmp_path / "reports"
    _shop(other, shop_run), _shop(reports / "near", shop_run)
    (reports / "shop").symlink_to(other)
    (other / "again").symlink_to(other)  # circles, and a link out to everything
    (reports / "up").symlink_to(tmp_path)
    report = "\n".join(erase(["s01-001"], reports=reports))
    assert (
        "near/run: 1 removed" in report and "shop/run: 1 removed" in report and "lead to a folder above: up" in report
    )
    assert _files_with(tmp_path, ["s01-001"]) == []
    for run in (load_run(other / "run"), load_run(reports / "shop" / "run")):
        assert "s01-001" not in _ids(run, "events"), "also along the path without the link"
    made = {"place": other / "new", "given": reports / "shop" / "new", "reuse": False}
    made_with = {**shop_run.parameters(), "source_name": "shop", "source_fingerprint": "", "previous": ""}
    assert "s01-001" not in _ids(chain._begin(other / "new.building-1", made_with=made_with, **made), "events")


@pytest.mark.parametrize("name", ["Jürgen-4711", "a/b-4711", "\U0001f600-4711"])
def test_ids_with_escapes_leave_the_state(few: Path, left: list[str], name: str) -> None:
    escaped = json.dumps({"customer_id": name}).replace("/", "\\/")
    late = f'{{"text": "{"x" * 2000}", {escaped[1:-1]}, "event": 3'  # named after the part of the line that is kept
    lines = [escaped[:-1], f'{escaped[:-1]}, "text": "{"x" * 2000}"', escaped[:-1].replace("\\u", "\\U".lower()), late]
    run_live(str(few / "run"), source=io.BytesIO("\n".join(lines).encode()), out=io.BytesIO())
    with Live(few / "run") as live:
        assert len(live.state.rejected_lines()) == 3
        live.feed({"event_id": "e", "customer_id": name, "timestamp": "2024-03-02T10:00:00Z"})
    erase([name], reports=few)
    with Live(few / "run") as live:
        assert live.state.rejected_lines() == []
    assert (few / "run.live" / "state.sqlite.aside.jsonl").read_text() == ""


@pytest.mark.parametrize("written", [4711, 4711.0, "4711.0", " 4711\t"])
def test_a_rejected_line_of_an_erased_customer_is_not_stored_however_the_id_is_written(
    few: Path, left: list[str], written: object
) -> None:
    line = json.dumps({"event_id": "e", "customer_id": written, "timestamp": "2024-03-02", "event": "dance"}).encode()
    run_live(str(few / "run"), source=io.BytesIO(line), out=io.BytesIO())
    with Live(few / "run") as live:
        assert len(live.state.rejected_lines()) == 1
        live.feed({"event_id": "f", "customer_id": written, "timestamp": "2024-03-02"})
    erase(["4711"], reports=few)
    run_live(str(few / "run"), source=io.BytesIO(line), out=io.BytesIO())
    with Live(few / "run") as live:
        assert live.state.rejected_lines() == []


def test_files_of_the_user_are_named_by_numbers_too(few: Path, left: list[str]) -> None:
    run = load_run(few / "run")
    table = run.table("assignments").assign(customer_id=lambda rows: [str(1000 + n) for n in range(len(rows))])
    pd.DataFrame(table).to_parquet(few / "run" / "tables" / "assignments.parquet", index=False)
    rows = pd.DataFrame({"ClientNo": [999, 1000], "mail": ["a@b.de", "c@d.de"]})
    rows.to_csv(few / "mailing.csv", index=False), rows.to_csv(few / "half.csv", index=False, sep=";")
    rows.to_csv(few / "g.csv.gz", index=False), rows.to_parquet(few / "y.parquet"), rows.to_excel(few / "z.xlsx")
    rows.rename(columns={"ClientNo": "customer_id"}).to_csv(few / "ok.csv", index=False)
    (few / "note.txt").write_text("call 1000 back"), (few / "x.json").write_text('{"id": 1000}')
    (few / "price.csv").write_text("amount\n10000\n1000.50\n"), (few / "old.zip").write_bytes(b"PK")
    report = "\n".join(erase(["1000"], reports=few))
    assert "still contain an id: ok.csv. Delete" in report
    for name in ("mailing.csv", "half.csv", "g.csv.gz", "y.parquet", "z.xlsx", "note.txt", "x.json"):
        assert name in report, name
    assert "price.csv" not in report and "not searched: .zip" in report and "run/" not in report


def test_a_previous_run_in_another_folder_does_not_bring_them_back(shop_run: Run, tmp_path: Path) -> None:
    run, before = _shop(tmp_path / "reports", shop_run), _shop(tmp_path / "before", shop_run)
    erase(["s01-001"], reports=tmp_path / "reports")
    assert "s01-001" in set(before.table("assignments")["customer_id"])
    found = previous_run(str(before.path), of=run)
    assert "s01-001" not in set(found.table("assignments")["customer_id"])
    assert len(found.table("segments")) == len(before.table("segments"))


def test_a_running_live_state_in_another_folder_accepts_nothing_more(
    few: Path,
    left: list[str],
    tmp_path: Path,
    purchase: Callable[..., dict[str, Any]],  # noqa: F811
) -> None:
    with Live(few / "run", state=tmp_path / "state") as live:
        live.feed(purchase("one", left[0], "2024-03-02")), live.feed(purchase("two", left[0], "2024-06-02"))
        report = "\n".join(erase([left[0]], reports=few))
        assert "live states in other folders (--reports FOLDER erases there too)" in report
        live.flush()
        before = live.state.counts()
        live.feed(purchase("three", left[0], "2024-03-03"))
        live.tick("2024-04-15T12:00:00Z"), live.tick("2024-06-02T12:00:00Z")
        assert live.state.counts()["events"] == before["events"]
        assert not [line for line in live.state.changes(after=before["changes"]) if left[0] in line]
    (tmp_path / "state").rename(tmp_path / "other.sqlite")
    erase([left[0]], reports=tmp_path)
    assert _files_with(tmp_path, [left[0]]) == []


def test_what_a_killed_process_left_goes_and_what_a_running_one_writes_is_named(
    few: Path, left: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pd.DataFrame({"customer_id": left})
    dead = "2000000000"
    for folder in (few / f"pilot.building-{dead}", few / "exports"):
        folder.mkdir()
        rows.to_csv(folder / f".treatment.csv.{dead}", index=False)
        rows.to_parquet(folder / f".units.parquet.{dead}", index=False)
    rows.to_csv(few / f"pilot.building-{dead}" / "treatment.csv", index=False)
    monkeypatch.setattr(tempfile, "tempdir", str(few.parent))
    spills = [few.parent / f"segkit-{process}-0123456789abcdef" for process in (dead, os.getpid())]
    for folder in spills:
        folder.mkdir()
    rows.to_csv(few / f".running.csv.{os.getpid()}", index=False)
    report = "\n".join(erase(left, reports=few))
    assert not [path for path in few.rglob("*") if path.name.endswith(dead)]
    assert [folder.exists() for folder in spills] == [False, True], "what DuckDB wrote to the temporary folder"
    assert f"still contain an id: .running.csv.{os.getpid()}. Delete" in report
