"""A customer can be forgotten: nothing below the folder of the runs holds their id afterwards, later runs, exports,
placed newcomers and live events leave them out, and no list gives away who they were.
"""

import fcntl
import hashlib
import io
import json
import os
import shutil
import sqlite3
import stat
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
from tests.live.conftest import purchase, small_run  # noqa: F401  fixtures
from tests.live.live_runs import as_sent


@pytest.fixture
def reports(whole_run: Path, tmp_path: Path) -> Path:
    """A folder of runs: the made-up shop's run, and a pilot drawn from it."""
    folder = tmp_path / "reports" / "shop"
    folder.mkdir(parents=True)
    shutil.copytree(whole_run, folder / "run")
    return folder.parent


@pytest.fixture
def gone(reports: Path) -> list[str]:
    """Two customers of the largest segment."""
    assignments = load_run(reports / "shop" / "run").table("assignments")
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
    people.assign(spend=[10.0 + number % 7 for number in range(len(people))]).to_csv(tmp_path / "came.csv", index=False)
    return tmp_path / "came.csv"


def _answer(*arguments: str) -> Any:
    return CliRunner().invoke(main, [str(one) for one in arguments])


def _still_holding(root: Path, ids: list[str]) -> list[str]:
    """Files with an id in them, tables unpacked."""
    found = []
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if path.suffix == ".parquet":
            content = pd.read_parquet(io.BytesIO(content)).to_csv().encode()
        if any(one.encode() in content for one in ids):
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
def test_nothing_holds_the_customer_and_the_others_stay_as_they_were(reports: Path, gone: list[str]) -> None:
    run = load_run(reports / "shop" / "run")
    before = {path.stem: pd.read_parquet(path) for path in erasure.table_paths(run)}
    assert _still_holding(reports, gone)
    answer = _answer("forget", *gone, "--reports", reports)
    assert answer.exit_code == 0, answer.output
    assert "shop/run: 2 removed" in answer.stdout and "Out of reach" in answer.stdout
    assert not [one for one in gone if one in answer.stdout]
    assert _still_holding(reports, gone) == []
    for name, table in before.items():
        kept = table[~table["customer_id"].isin(gone)].reset_index(drop=True) if "customer_id" in table else table
        pd.testing.assert_frame_equal(run.table(name), kept)
    assert (run.record()["forgotten"]["customers"], run.record()["outcome"]) == (2, "done")


def test_list_holds_marks_and_its_key_is_for_its_owner_alone(few: Path, left: list[str]) -> None:
    erase(left, reports=few)
    held = json.loads((few / ERASURE_FILE).read_text())
    assert len(held["marks"]) == 2 and set(held) == {"key", "marks"}
    assert hashlib.sha256(left[0].encode()).hexdigest() not in held["marks"], "without the key nobody can try ids"
    assert stat.S_IMODE((few / KEY_FILE).stat().st_mode) == 0o600
    veil = load_privacy(few / "run")
    assert [veil.is_erased(one) for one in (*left, "another")] == [True, True, False]


def test_lost_key_stops_instead_of_bringing_them_back(
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


def test_unknown_customer_is_named_and_nothing_changes(few: Path, left: list[str]) -> None:
    before = _tree(few)
    answer = _answer("forget", left[0], "nobody", "no-one", "--reports", few)
    assert answer.exit_code == 2
    assert "no-one, nobody: not found" in answer.stderr and "(of 3 given)" in answer.stderr
    assert left[0] not in answer.stderr
    assert _tree(few) == before


def test_forgotten_twice_is_no_error(few: Path, left: list[str]) -> None:
    erase(left, reports=few)
    before = _tree(few)
    assert "2 customers are erased" in "\n".join(erase(left, reports=few))
    assert _tree(few) == before


@pytest.mark.slow
@pytest.mark.parametrize("written", [1, 4, 9, 14])
def test_broken_off_it_can_be_done_again(
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
    assert _still_holding(reports, gone) == []
    assert load_run(reports / "shop" / "run").record()["forgotten"]["customers"] == 2
    answer = _answer("readout", pilot, outcomes)
    assert answer.exit_code == 0, answer.output
    assert "2 customers were forgotten since the draw" in answer.stdout


@pytest.mark.parametrize("written", range(8))
def test_broken_off_at_any_file_of_a_run_it_can_be_done_again(
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
    assert _still_holding(few, left) == []
    noted = load_run(few / "run").record()["forgotten"]
    assert (noted["customers"], noted["pending"]) == (2, 0)


@pytest.mark.slow
def test_read_out_goes_on_and_says_how_many(reports: Path, gone: list[str], outcomes: Path) -> None:
    pilot = _draw_pilot(reports)
    people = len(pd.read_parquet(pilot / "units.parquet"))
    erase(gone, reports=reports)
    answer = _answer("readout", reports / "shop" / "run", outcomes)  # found by the run it was drawn from
    assert answer.exit_code == 0, answer.output
    assert "2 customers were forgotten since the draw" in answer.stdout
    assert "2 customers were forgotten" in (pilot / "readout" / "readout.html").read_text()
    assert len(pd.read_parquet(pilot / "units.parquet")) == people - 2


@pytest.mark.slow
def test_design_that_was_changed_stays_refused(reports: Path, gone: list[str], outcomes: Path) -> None:
    pilot = _draw_pilot(reports)
    units = pd.read_parquet(pilot / "units.parquet")
    units.assign(arm=units["arm"].iloc[::-1].to_numpy()).to_parquet(pilot / "units.parquet", index=False)
    erase(gone, reports=reports)
    assert _still_holding(reports, gone) == []
    answer = _answer("readout", pilot, outcomes)
    assert answer.exit_code == 2 and "changed after the draw" in answer.stderr


def test_source_of_later_runs_leaves_them_out(reports: Path, gone: list[str]) -> None:
    run = load_run(reports / "shop" / "run")
    ids = {one: set(_ids(run, one)) for one in ("events", "customers")}
    assert all(set(gone) <= held for held in ids.values())
    add_to_erasure_list(reports, gone)
    assert all(set(_ids(run, name)) == held - set(gone) for name, held in ids.items())


def _ids(run: Run, what: str) -> list[str]:
    read = {"events": read_events, "customers": read_customers}[what]
    return (
        read(open_run_source(run), con=connect()).select("customer_id").distinct().to_pandas()["customer_id"].tolist()
    )


@pytest.mark.slow
def test_placing_and_exports_leave_them_out(
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


def test_files_of_the_user_that_hold_an_id_are_named(few: Path, left: list[str]) -> None:
    (few / "mail.csv").write_text(f"customer_id,mail\n{left[0]},a@b.de\n")
    (few / "note.txt").write_text(f"call {left[1]} back")
    (few / "other.txt").write_text(f"about {left[1]}0, someone else")
    said = "\n".join(erase(left, reports=few))
    assert "still contain an id: mail.csv, note.txt. Delete" in said
    assert left[0] in (few / "mail.csv").read_text(), "files of the user are theirs to mend"


def test_run_that_is_being_made_stops_it(few: Path, left: list[str]) -> None:
    before = _tree(few)
    with (few / ".run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        answer = _answer("forget", *left, "--reports", few)
    assert answer.exit_code == 2 and "another process is working there. Nothing was changed" in answer.stderr
    (few / ".run.lock").unlink()
    assert _tree(few) == before


def test_live_state_holds_nothing_of_them_and_takes_nothing_in(
    small_run: tuple[Run, Any],  # noqa: F811
    tmp_path: Path,
    purchase: Callable[..., dict[str, Any]],  # noqa: F811
) -> None:
    run = Run(Path(shutil.copytree(small_run[0].path, tmp_path / "reports" / "run")))
    events = [as_sent(row) for row in small_run[1].rows]
    who = events[0]["customer_id"]
    lines = [json.dumps(event).encode() for event in events]
    lines += [b'{"broken": "%s"' % who.encode(), json.dumps(purchase("later", who, "2031-01-01")).encode()]
    run_live(str(run.path), source=io.BytesIO(b"\n".join(lines)), out=io.BytesIO())
    assert "run.live/state.sqlite" in "\n".join(_still_holding(tmp_path / "reports", [who]))
    with Live(run.path) as live:
        before, last = live.state.counts(), live.last_change
    erase([who], reports=tmp_path / "reports")
    assert _still_holding(tmp_path / "reports", [who]) == [], (
        "freed pages, the log beside it and the side file included"
    )
    with Live(run.path) as live:
        counts = live.state.counts()
        assert counts["events"] < before["events"] and counts["parked"] < before["parked"]
        assert live.last_change == last, "numbers of changes are never given twice"
        assert live.feed(purchase("again", who, "2024-06-01")) == [] and live.state.counts() == counts
        assert who not in live.customers() and live.segment(who) is None
    bad = {**purchase("bad", who, "2024-06-01"), "event": "nonsense"}
    run_live(str(run.path), source=io.BytesIO(json.dumps(bad).encode()), out=io.BytesIO())
    assert _still_holding(tmp_path / "reports", [who]) == []


def test_state_in_use_is_left_alone(small_run: tuple[Run, Any], tmp_path: Path) -> None:  # noqa: F811
    run = Run(Path(shutil.copytree(small_run[0].path, tmp_path / "reports" / "run")))
    who = run.table("assignments")["customer_id"].iloc[0]
    with Live(run.path), pytest.raises(RunError, match="another process is working there. Nothing was changed"):
        erase([who], reports=tmp_path / "reports")
    erase([who], reports=tmp_path / "reports")
    with sqlite3.connect(tmp_path / "reports" / "run.live" / "state.sqlite") as con:
        assert con.execute("pragma integrity_check").fetchone() == ("ok",)


@pytest.mark.slow
def test_next_run_is_made_without_them(reports: Path, gone: list[str], made_up_company: Path) -> None:
    erase(gone, reports=reports)
    out = reports / "shop" / "next"
    answer = _answer("run", "--source", made_up_company, "--out", out, "--steps", "01-03", "--previous", "none")
    assert answer.exit_code == 0, answer.output
    assert _still_holding(out, gone) == []
    before, now = (len(load_run(reports / "shop" / name).table("features")) for name in ("run", "next"))
    assert now == before
