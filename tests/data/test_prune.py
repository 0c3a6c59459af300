"""Older runs are removed, and nothing but older runs."""

import fcntl
from pathlib import Path

import pytest

from segkit.data.prune import prune_runs
from segkit.data.runs import Run, load_run, open_run
from segkit.notebook import chain


def _run(folder: Path, as_of: str, *, source: str = "shop", outcome: str = "done") -> Path:
    run = open_run(folder, outcome="building", as_of=as_of, source_name=source)
    (folder / "tables").mkdir(exist_ok=True)
    run.update(outcome=outcome)
    return folder


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Four months of a shop, and much that is no older run of it."""
    for month in ("01", "02", "03", "04"):
        _run(tmp_path / f"2024-{month}-01", f"2024-{month}-01")
    _run(tmp_path / "2023-01-01.failed", "2023-01-01", outcome="failed")
    _run(tmp_path / "2023-05-01.failed", "2023-05-01")
    _run(tmp_path / "lab", "2023-01-01", outcome="scratch")
    _run(tmp_path / "sent-to-the-board", "2023-01-01")
    _run(tmp_path / "other", "2023-01-01", source="another")
    for name in ("pilots/one", "notes", "2024-01-01.live"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "note.txt").write_text("x")
    (tmp_path / "2024-01-01.live" / "state.sqlite.lock").touch()
    return tmp_path


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def test_newest_runs_remain_and_live_states_go_with_their_run(shop: Path) -> None:
    before = _names(shop)
    assert prune_runs(shop / "2024-04-01", keep=2) == (["2024-01-01", "2024-02-01"], [])
    assert _names(shop) == before - {"2024-01-01", "2024-02-01", "2024-01-01.live"}
    assert prune_runs(shop / "2024-04-01", keep=2) == ([], [])
    assert not list(shop.glob(".*.pruned"))


def test_new_run_remains_even_if_it_is_the_oldest(shop: Path) -> None:
    assert prune_runs(shop / "2024-01-01", keep=1) == (["2024-02-01", "2024-03-01", "2024-04-01"], [])
    assert (shop / "2024-01-01").is_dir() and (shop / "2024-01-01.live").is_dir()


def test_run_with_a_live_state_in_use_remains(shop: Path) -> None:
    with (shop / "2024-01-01.live" / "state.sqlite.lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert prune_runs(shop / "2024-04-01", keep=1) == (["2024-02-01", "2024-03-01"], ["2024-01-01"])
    assert (shop / "2024-01-01" / "run.json").is_file() and (shop / "2024-01-01.live" / "note.txt").is_file()


def test_leftovers_of_a_killed_process_are_removed(shop: Path) -> None:
    (shop / "2024-01-01").rename(shop / ".2024-01-01.pruned")
    assert prune_runs(shop / "2024-04-01", keep=4) == ([], [])
    assert not (shop / ".2024-01-01.pruned").exists() and (shop / "2024-02-01").is_dir()


def test_a_broken_run_in_the_same_folder_does_not_harm_the_new_run(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (shop / "2024-02-01" / "run.json").write_text("{")
    chain._prune(shop / "2024-04-01", keep=1)
    assert "could not be removed" in capsys.readouterr().err and len(_names(shop)) == 12
    assert load_run(shop / "2024-04-01").record()["outcome"] == "done" and isinstance(load_run(shop / "lab"), Run)
