"""With --pseudonymise no id of a customer stands in a run: tables and notebooks show keyed hashes, the same from run to
run, and only an export, which reads the source again, gives the ids back.
"""

import io
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from segkit.cli import main
from segkit.data.holdout import Holdout
from segkit.data.privacy import KEY_VARIABLE, PSEUDONYM_LENGTH, add_to_erasure_list, key_id, make_key
from segkit.data.runs import load_run, open_run, open_run_source, source_ids
from segkit.data.sources import connect, open_source, read_customers, read_events
from segkit.erasure import erase
from segkit.errors import InputError, RunError
from segkit.export.export import export_segments
from segkit.live.engine import Live
from segkit.notebook.chain import run_chain

KEY = "of the tests, long enough"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A source of 44 customers with addresses."""
    ids = [f"heron-{number}" for number in range(44)]
    days = pd.date_range("2024-01-01", periods=44, freq="2D").astype(str)
    lines = pd.DataFrame({"who": ids, "when": days}).assign(number=lambda rows: rows["who"] + "-1")
    lines.to_csv(tmp_path / "lines.csv", index=False)
    pd.DataFrame({"id": ids, "mail": [f"{customer_id}@mail.com" for customer_id in ids]}).to_csv(
        tmp_path / "people.csv", index=False
    )
    (tmp_path / "shop.yaml").write_text(
        "name: shop\ntimezone: UTC\nevents:\n  - path: lines.csv\n"
        "    columns: {customer_id: who, timestamp: when, order_id: number}\n"
        "customers: {path: people.csv, columns: {customer_id: id, mail: mail}, roles: {mail: identifier}}\n"
    )
    return tmp_path / "shop.yaml"


@pytest.fixture
def hashed(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of it whose ids are hashes, with two segments."""
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    asked = {"source": str(shop), "source_name": "shop", "as_of": "2024-06-01", "pseudonyms": key_id(KEY)}
    asked |= {"lookback_days": 182, "horizon_days": 91}
    run = open_run(tmp_path / "runs" / "one", step="03_segments", **asked)
    people = read_events(open_run_source(run), con=connect()).to_pandas()[["customer_id"]]
    fixed = {"macro_segment": "M1", "need": "N01", "confidence": 0.75, "core": True, "x": 0.0, "y": 0.0}
    run.write(people.assign(segment=["S01", "S02"] * 22, **fixed), "assignments")
    ranged = {f"{n}{p}": 0.5 for n in ("stability", "active_share_next", "spend_next") for p in ("", "_low", "_high")}
    zero = {"customer_share": 0.1, "revenue": 1.0, "revenue_share": 0.1, "margin": 0.1, "orders": 1, "customers": 22}
    words = {
        "verdict": "natural",
        "need": "N01",
        "need_name": "bread",
        "action": "offer bread",
        "spend_now": 1.0,
        "macro_segment": "M1",
    }
    names = pd.DataFrame({"segment": ["S01", "S02"], "name": ["One", "Two"]})
    run.write(names.assign(**ranged, **zero, **words), "segments")
    return run.path


def test_source_of_the_run_shows_hashes_of_one_length_and_the_source_itself_does_not(hashed: Path, shop: Path) -> None:
    opened = open_run_source(load_run(hashed))
    for read in (read_events, read_customers):
        ids = read(opened, con=connect()).select("customer_id").to_pandas()["customer_id"]
        assert ids.nunique() == 44 and set(ids.str.len()) == {PSEUDONYM_LENGTH} and not ids.str.contains("heron").any()
        known = set(read_events(opened, con=connect()).to_pandas()["customer_id"])
        assert set(ids) == known, "the same customer has one hash in every table"
    orders = read_events(opened, con=connect()).to_pandas()["order_id"]
    assert orders.nunique() == 44 and not orders.str.contains("heron").any(), "an order id can contain the customer's"
    plain = read_events(open_source(str(shop)), con=connect()).to_pandas()["customer_id"]
    assert plain.str.startswith("heron-").all()


def test_export_gives_the_ids_of_the_source_back(hashed: Path, tmp_path: Path) -> None:
    export_segments(str(hashed), to="csv", out=str(tmp_path / "out.csv"))
    table = pd.read_csv(tmp_path / "out.csv")
    assert sorted(table["customer_id"]) == sorted(f"heron-{number}" for number in range(44))
    assert table.set_index("customer_id")["segment"]["heron-0"] == "S01"


def test_erased_customer_leaves_a_run_of_hashes_and_its_exports(hashed: Path, tmp_path: Path) -> None:
    erase(["heron-0"], reports=tmp_path / "runs")
    assert len(load_run(hashed).table("assignments")) == 43
    export_segments(str(hashed), to="csv", out=str(tmp_path / "out.csv"))
    assert "heron-0" not in set(pd.read_csv(tmp_path / "out.csv")["customer_id"])


def test_holdout_erasure_and_pseudonyms_hold_together(hashed: Path, shop: Path, tmp_path: Path) -> None:
    held = Holdout(0.4, start=date(2024, 5, 1), end=date(2024, 12, 31))
    stated = f"holdout: {held.share}\nholdout_from: {held.start}\nholdout_until: {held.end}\n"
    shop.write_text(shop.read_text(encoding="utf-8") + stated, encoding="utf-8")
    everyone = {f"heron-{number}" for number in range(44)}
    kept_out = held.members(everyone)
    gone = {min(kept_out), min(everyone - kept_out)}
    placed = hashed / "tables" / "assignments.parquet"
    table = pd.read_parquet(placed).assign(segment="S01")  # so that enough are left of it to be exported
    table.to_parquet(placed, index=False)
    erase(sorted(gone), reports=tmp_path / "runs")
    made = export_segments(str(hashed), to="csv", out=str(tmp_path / "out.csv"))
    assert set(pd.read_csv(tmp_path / "out.csv")["customer_id"]) == everyone - kept_out - gone
    assert made.left_out["held out of the whole programme until 2024-12-31"] == len(kept_out - gone)
    run = load_run(hashed)
    after = set(run.table("assignments")["customer_id"])
    assert after < set(table["customer_id"]) and len(after) == 42, "who is held out stays in the run, as a hash"
    assert set(read_events(open_run_source(run), con=connect()).to_pandas()["customer_id"]) == after
    own = source_ids(run, open_run_source(run, source_ids=True))
    assert set(own.reindex(sorted(after))) == everyone - gone, "so that the programme can be measured by their ids"
    assert not [path for path in hashed.rglob("*") if path.is_file() and b"heron-" in path.read_bytes()]


def test_what_needs_the_ids_is_refused(hashed: Path) -> None:
    answer = CliRunner().invoke(main, ["pilot", str(hashed), "--segment", "S01"])
    assert answer.exit_code == 2
    assert "its ids are hashes (--pseudonymise), and a pilot lists the customers" in answer.stderr
    run = load_run(hashed)
    with pytest.raises(RunError, match="its ids are hashes.*live events carry the ids"):
        Live(run.path)


def test_another_key_is_refused(hashed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "of the tests, and another one")
    with pytest.raises(RunError, match="--pseudonymise: it needs the key it was made with, and another key is there"):
        open_run_source(load_run(hashed))
    monkeypatch.setenv(KEY_VARIABLE, "short")
    with pytest.raises(InputError, match="SEGKIT_KEY: too short to be safe. Give at least 16"):
        make_key(tmp_path)


def test_run_does_not_continue_a_run_with_other_ids(hashed: Path, shop: Path) -> None:
    load_run(hashed).update(outcome="done")
    with pytest.raises(RunError, match="has other customer ids"):
        run_chain(source=str(shop), as_of="2024-07-01", out=hashed.parent / "two", previous=str(hashed))
    assert not (hashed.parent / "two").exists()


def test_key_is_made_once_and_holds_below_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    key = make_key(tmp_path / "reports")
    assert make_key(tmp_path / "reports" / "shop") == key and len(key) == 64
    assert not (tmp_path / "reports" / "shop").exists()
    add_to_erasure_list(tmp_path / "reports", ["heron-1"])
    assert key not in (tmp_path / "reports" / "forgotten.json").read_text()


@pytest.mark.slow
def test_whole_run_holds_no_id(made_up_company: Path, tmp_path: Path) -> None:
    out = tmp_path / "reports" / "run"
    answer: Any = CliRunner().invoke(
        main, ["run", "--source", str(made_up_company), "--out", str(out), "--pseudonymise"]
    )
    assert answer.exit_code == 0, answer.output
    key = make_key(out.parent)
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if path.suffix == ".parquet":
            content = pd.read_parquet(io.BytesIO(content)).to_csv().encode()
        assert b"kestrel-" not in content and key.encode() not in content, path
