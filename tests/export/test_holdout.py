"""The holdout of a programme: the same customers are in no export, no pilot and no list, in every run."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pytest

from segkit.data.check import check_source
from segkit.data.holdout import Holdout
from segkit.data.runs import Run, load_run
from segkit.data.spec import parse_source
from segkit.errors import SourceError
from segkit.experiments.pilot import design_pilot
from segkit.export.export import export_segments
from segkit.export.target import list_targets
from tests.export.conftest import SOURCE

Make = Callable[..., Path]
HELD = "holdout: 0.2\nholdout_from: 2024-06-10\nholdout_until: 2025-06-30\n"
HOLDOUT = Holdout(0.2, start=date(2024, 6, 10), end=date(2025, 6, 30))


def test_a_holdout_is_a_share_of_customers_and_its_start_alone_draws_it() -> None:
    ids = [f"c{n}" for n in range(20_000)]
    held = HOLDOUT.members(ids)
    assert abs(len(held) / len(ids) - 0.2) < 0.01
    assert held == HOLDOUT.members(reversed(ids))
    assert held < Holdout(0.4, start=HOLDOUT.start, end=HOLDOUT.end).members(ids)
    later = Holdout(0.2, start=date(2025, 7, 1), end=date(2026, 6, 30)).members(ids)
    assert abs(len(held & later) / len(held) - 0.2) < 0.03
    kept = HOLDOUT.without(ibis.memtable({"customer_id": ids})).to_pandas()["customer_id"]
    assert set(kept) == set(ids) - held


def test_nobody_of_the_holdout_is_in_any_export_and_they_are_the_same_in_two_runs(
    make_run: Make, people: pd.DataFrame, tmp_path: Path, webhook: Any
) -> None:
    people.loc[10, "mail"] = people.loc[4, "mail"]
    webhook.statuses = [200, 200]
    held = HOLDOUT.members(people["id"].iloc[:65])
    assert len(held) >= 5
    for run in (make_run(people, source=SOURCE + HELD), make_run(people, source=SOURCE + HELD, name="later", moved=3)):
        for target in list_targets():
            if target in ("database", "webhook"):
                continue
            out = tmp_path / "out" / run.name / target
            made = export_segments(run, to=target, out=str(out))
            assert not held & set(made.rows.index)
            assert made.left_out["held out of the whole programme until 2025-06-30"] == len(held)
            assert f"left out: {len(held)} held out of the whole programme until 2025-06-30" in str(made)
            written = [path.read_text(encoding="utf-8", errors="ignore") for path in out.rglob("*.csv")]
            assert written or target == "parquet"
            assert not [one for one in held for text in written if f"ann.{one[1:]}@example.com" in text.lower()]
        url = f"duckdb://{tmp_path}/out-{run.name}.duckdb"
        assert not held & set(export_segments(run, to="database", out=url, table="t").rows.index)
        export_segments(run, to="webhook", out=f"http://127.0.0.1:{webhook.server_port}/x")
        posted = {row["customer_id"] for row in webhook.got[-1][1]}
        assert len(posted) > 20 and not held & posted


def test_a_holdout_ends_and_begins_with_its_dates(make_run: Make, people: pd.DataFrame, tmp_path: Path) -> None:
    for first, last, holds in (
        ("2024-01-01", "2024-05-31", False),  # over on the as_of of the run
        ("2024-01-01", "2024-06-01", True),
        ("2024-08-30", "2025-01-01", True),  # begins while the run is used
        ("2024-08-31", "2025-01-01", False),
    ):
        stated = f"holdout: 0.2\nholdout_from: {first}\nholdout_until: {last}\n"
        run = make_run(people, source=SOURCE + stated, name=f"run-{first}-{last}")
        made = export_segments(run, to="csv", out=str(tmp_path / "out"), dry_run=True)
        assert any(reason.startswith("held out of the whole") for reason in made.left_out) is holds


def test_no_pilot_has_one_of_the_holdout(shop: Path, tmp_path: Path) -> None:
    text = (shop / "source.yaml").read_text(encoding="utf-8").replace("path: ", f"path: {shop}/")
    (tmp_path / "source.yaml").write_text(text + HELD, encoding="utf-8")
    run = load_run(shop / "run")
    made_with = run.parameters() | {"source": str(tmp_path / "source.yaml")}
    run = _with_parameters(run, made_with)
    pilot = design_pilot(run, segments=("S01", "S02"))
    held = HOLDOUT.members(run.table("assignments")["customer_id"])
    assert len(held) > 20 and not held & set(pilot.units.index)
    assert pilot.facts["left_out"]["held out of the whole programme until 2025-06-30"] > 20
    assert held & set(design_pilot(run, segments=("S01",), start="2025-07-01").units.index)


def _with_parameters(run: Run, made_with: dict[str, object]) -> Run:
    object.__setattr__(run, "parameters", lambda: made_with)
    return run


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ("holdout: 3\nholdout_from: 2024-01-01\nholdout_until: 2024-12-31\n", "above 0 and at most 0.5"),
        ("holdout: 0\nholdout_from: 2024-01-01\nholdout_until: 2024-12-31\n", "above 0 and at most 0.5"),
        ("holdout: 3 %\nholdout_from: 2024-01-01\nholdout_until: 2024-12-31\n", "above 0 and at most 0.5"),
        ("holdout: 0.03\n", "go together"),
        ("holdout_from: 2024-01-01\nholdout_until: 2024-12-31\n", "go together"),
        ("holdout: 0.03\nholdout_from: soon\nholdout_until: 2024-12-31\n", "not a date"),
        ("holdout: 0.03\nholdout_from: 2025-01-01\nholdout_until: 2024-12-31\n", "is before holdout_from"),
    ],
)
def test_a_holdout_that_cannot_be_is_refused_in_a_sentence(stated: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=words) as refused:
        parse_source(SOURCE + stated, label="shop.yaml", base=tmp_path)
    assert "holdout" in str(refused.value) and "\n" not in str(refused.value)


def test_check_counts_the_holdout(make_run: Make, people: pd.DataFrame, tmp_path: Path) -> None:
    make_run(people, source=SOURCE + HELD)
    held = len(HOLDOUT.members(people["id"]))
    report = str(check_source(str(tmp_path / "source" / "shop.yaml"), as_of="2024-06-01"))
    assert f"holdout: {held} of 66 customers (20.0%) are in no export and no pilot from 2024-06-10" in report
    assert np.isclose(held / 66, 0.2, atol=0.12)
