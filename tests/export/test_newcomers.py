"""Customers a run has not seen get the segments the batch would give them, from events in any form that is taken."""

import json
import random
import shutil
import subprocess
import sys
from datetime import date
from importlib.util import find_spec
from pathlib import Path

import ibis
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from segkit.cli import main
from segkit.customers.anticipation import anticipate, balanced_space
from segkit.customers.days import build_days
from segkit.customers.features import customer_data
from segkit.data.runs import open_run
from segkit.errors import InputError
from segkit.export.newcomers import assign_newcomers, write_newcomers
from segkit.period import Period
from segkit.segments.model import SegmentModel, assign_segments, model_to_arrays
from tests.engines import missing
from tests.export.conftest import SEGMENTS

KINDS = {"purchase": "customer", "email": "company"}
AS_OF, DAYS = date(2024, 6, 1), {"lookback_days": 90, "horizon_days": 30}
COLUMNS = ["customer_id", "timestamp", "event", "category", "channel", "amount"]


def _events(seed: int, *, customers: int) -> pd.DataFrame:
    rng = random.Random(seed)
    rows = []
    for number in range(customers):
        for _ in range(rng.randint(1, 12)):
            day = pd.Timestamp("2024-02-20") + pd.Timedelta(days=rng.randint(0, 110), hours=rng.randint(0, 23))
            bought = rng.random() < 0.8
            paid = round(rng.lognormvariate(2, 1), 2) if bought else None
            what = rng.choice(["bread", "l'eau", '"wine"', "tea"]) if bought else None
            rows.append((f"={seed}-{number}", day, "purchase" if bought else "email", what, rng.choice("ab"), paid))
    return pd.DataFrame(rows, columns=COLUMNS)


def _days(events: pd.DataFrame):  # noqa: ANN202  Days
    table = events.assign(day=events["timestamp"].dt.normalize(), hour=events["timestamp"].dt.hour)
    held = ibis.memtable(table)
    return build_days(held.mutate(day=held.day.date(), amount=held.amount.cast("decimal(18, 4)")), kinds=KINDS)


def _signals(events: pd.DataFrame):  # noqa: ANN202  Signals
    return customer_data(_days(events), period=Period(AS_OF, **DAYS), kinds=KINDS)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose model was learnt on forty customers; its centres are five of them."""
    signals = _signals(_events(1, customers=40))
    space = balanced_space(signals)
    centres = anticipate(space, signals).axes.to_numpy()[:5]
    ids = ("S01", "S02", "S03", "S01", "S02")
    bags = {"bag_centres": centres, "bag_of": np.array([0, 0, 0, 1, 1]), "bag_segment": np.arange(5)}
    model = SegmentModel(space=space, segments=ids, macro=("M1",) * 5, centres=centres, **bags)
    made = open_run(tmp_path / "run", step="03_segments", source="s", as_of=str(AS_OF), **DAYS)
    arrays, meta = model_to_arrays(model)
    texts = {"kinds": KINDS, "needs": ["purchase"], "timezone": "UTC", "lookback_days": DAYS["lookback_days"]}
    made.save_model(arrays, meta=meta | texts)
    SEGMENTS.assign(macro_segment="M1").to_parquet(_folder(made.path / "tables") / "segments.parquet")
    return made.path


def _folder(path: Path) -> Path:
    path.mkdir(exist_ok=True)
    return path


def _model(run: Path) -> SegmentModel:
    from segkit.data.runs import load_run
    from segkit.segments.model import model_from_arrays

    return model_from_arrays(*load_run(run).load_model())


@pytest.mark.parametrize("form", ["parquet", "yaml"])
def test_newcomers_get_the_segment_the_batch_gives(run: Path, tmp_path: Path, form: str) -> None:
    events = _events(2, customers=60)
    path = tmp_path / "new.parquet"
    events.to_parquet(path)
    if form == "yaml":
        events.to_csv(tmp_path / "new.csv", index=False)
        path = tmp_path / "new.yaml"
        columns = "\n".join(f"      {name}: {name}" for name in COLUMNS)
        texts = "name: new\ntimezone: UTC\nkinds: {purchase: customer, email: company}\nevents:\n  - path: new.csv\n"
        path.write_text(f"{texts}    columns:\n{columns}\n")
    out = write_newcomers(assign_newcomers(run, str(path), folder=tmp_path), out=tmp_path / "placed.parquet")
    found = pd.read_parquet(out).set_index("customer_id")
    wanted = assign_segments(_model(run), _signals(events))
    pd.testing.assert_frame_equal(found[list(wanted.columns)], wanted, check_dtype=False)
    assert list(found["segment_name"].unique()) and set(found["segment_name"]) <= set(SEGMENTS["name"])


def test_an_earlier_date_sees_no_later_event(run: Path, tmp_path: Path) -> None:
    events = _events(2, customers=60)
    events.to_parquet(tmp_path / "all.parquet")
    events[events["timestamp"] < "2024-04-01"].to_parquet(tmp_path / "some.parquet")
    found = [
        assign_newcomers(run, str(tmp_path / name), folder=tmp_path, as_of="2024-04-01")
        .to_pandas()
        .sort_values("customer_id")
        for name in ("all.parquet", "some.parquet")
    ]
    pd.testing.assert_frame_equal(*(table.reset_index(drop=True) for table in found))
    assert 0 < len(found[0]) < 60


def test_postgres_places_newcomers_too(run: Path, tmp_path: Path, postgres: str) -> None:
    events = _events(3, customers=40)
    events.to_parquet(tmp_path / "new.parquet")
    placed = assign_newcomers(run, str(tmp_path / "new.parquet"), folder=tmp_path, engine=postgres)
    found = placed.to_pandas().set_index("customer_id").sort_index()
    wanted = assign_segments(_model(run), _signals(events))
    assert placed.get_backend().name == "postgres"
    placed.get_backend().disconnect()
    pd.testing.assert_frame_equal(found[list(wanted.columns)].round(6), wanted, check_dtype=False)


def test_the_command_prints_the_file_and_formulas_do_not_run(run: Path, tmp_path: Path) -> None:
    _events(2, customers=30).to_parquet(tmp_path / "new.parquet")
    out = tmp_path / "deep" / "placed.csv"
    answer = CliRunner().invoke(main, ["place", str(run), str(tmp_path / "new.parquet"), "--out", str(out)])
    assert (answer.exit_code, answer.stdout) == (0, f"{out}\n")
    assert out.read_text().splitlines()[1].startswith("'=2-")
    assert [path.name for path in out.parent.iterdir() if not path.name.startswith(".")] == [out.name]


@pytest.mark.parametrize("given", ["new.parquet", "shop.yaml"])
def test_what_is_read_is_never_overwritten(given: str, run: Path, tmp_path: Path) -> None:
    _events(2, customers=30).to_parquet(tmp_path / "new.parquet")
    (tmp_path / "shop.yaml").write_text(
        "{name: shop, timezone: UTC, events: {path: new.parquet, columns: {customer_id: customer_id, timestamp: "
        "timestamp}}}",
        encoding="utf-8",
    )
    before = (tmp_path / "new.parquet").read_bytes()
    (tmp_path / "link.parquet").symlink_to("new.parquet")
    for out in ("new.parquet", "link.parquet"):
        answer = CliRunner().invoke(main, ["place", str(run), str(tmp_path / given), "--out", str(tmp_path / out)])
        assert answer.exit_code == 2 and "the events are read from this file" in answer.stderr
    assert (tmp_path / "new.parquet").read_bytes() == before


def test_what_the_model_cannot_read_is_reported(run: Path, tmp_path: Path) -> None:
    events = _events(2, customers=10)
    for name, table, words in (
        ("a", events.drop(columns="amount"), "the model also reads .*spend"),
        ("b", events.drop(columns="category"), "the model also reads "),
        ("c", events.assign(event="chat"), "kind"),
        ("d", events.rename(columns={"customer_id": "customer"}), "no column 'customer_id'. Did you mean 'customer'"),
    ):
        table.to_parquet(tmp_path / f"{name}.parquet")
        with pytest.raises(InputError, match=words):
            assign_newcomers(run, str(tmp_path / f"{name}.parquet"), folder=tmp_path)
    with pytest.raises(InputError, match="not a date"):
        assign_newcomers(run, str(tmp_path / "a.parquet"), folder=tmp_path, as_of="June")
    with pytest.raises(InputError, match=r"end the name in \.csv or \.parquet"):
        write_newcomers(ibis.memtable(pd.DataFrame({"customer_id": ["a"]})).pipe(_there), out=tmp_path / "x.xls")


def _there(table: ibis.Table) -> ibis.Table:
    return ibis.duckdb.connect().create_table("t", table.to_pandas())


@pytest.mark.slow
def test_spark_from_events_to_a_folder_of_segments_gives_what_duckdb_gives(
    made_up_company: Path, whole_run: Path, tmp_path: Path
) -> None:
    if shutil.which("java") is None or find_spec("pyspark") is None:
        missing("Spark needs pyspark and Java")
    there = tmp_path / "run [1]"  # Spark reads it as a pattern
    spark = ["--engine", "local[2]"]
    _segkit("run", "--source", made_up_company, "--steps", "01-03", "--previous", "none", "--out", there, *spark)
    assert json.loads((there / "run.json").read_text())["parameters"]["engine"] == "local[2]"
    days = ("days", "day_categories", "day_channels", "day_orders")
    for name in (*days, "features", "anticipation", "assignments", "segments"):
        here, found = (pd.read_parquet(run / "tables" / f"{name}.parquet") for run in (whole_run, there))
        known = found.columns if name != "segments" else found.columns[found.notna().any()]  # the rest is filled later
        pd.testing.assert_frame_equal(found[known], here[known], atol=1e-9, rtol=1e-9)
    asked = ["place", there, made_up_company, "--out", tmp_path / "cluster", *spark]
    _segkit(*asked)
    again = CliRunner().invoke(main, [str(part) for part in asked])
    assert again.exit_code == 2 and "it exists already" in again.stderr
    _segkit("place", whole_run, made_up_company, "--out", tmp_path / "here.parquet")
    here, found = (
        pd.read_parquet(tmp_path / name).sort_values("customer_id", ignore_index=True)
        for name in ("here.parquet", "cluster")
    )
    pd.testing.assert_frame_equal(found.round(6), here)
    held = pd.read_parquet(there / "tables" / "assignments.parquet").set_index("customer_id")
    assert len(found) == len(held) and (found.set_index("customer_id")["segment"] == held["segment"]).all()


def _segkit(*asked: object) -> None:
    """The command in a process of its own: each has a Spark of its own."""
    script = f"from segkit.cli import main; main({[str(one) for one in asked]!r})"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr[-3000:]
