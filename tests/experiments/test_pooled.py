"""Read-outs pooled by type of action: what is counted, how wide the intervals are, and where it is said and used."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from segkit.data.io import write_json
from segkit.errors import InputError
from segkit.experiments.pooled import by_segment, past_tests, pool_readouts, pool_tests
from segkit.reports.programme import describe_pooled
from segkit.tables import check
from segkit.texts import speaking

BEFORE = date(2026, 1, 1)


@pytest.fixture
def give(tmp_path: Path) -> Callable[..., None]:
    """A function that writes the read-out of a pilot."""

    def write(name: str, *rows: tuple[str, str, float], type_: str = "win_back", end: str = "2025-06-30") -> None:
        segments = [
            {"segment": segment, "arm": arm, "lift": lift, "se": 0.5, "control_mean": 100.0, "treated": 300}
            | {"control": 400}
            for segment, arm, lift in rows
        ]
        content = {"kpi": "spend", "end": end, "run": {"assignments": name}, "segments": segments}
        write_json(tmp_path / "pilots" / name / "readout" / "readout.json", content)
        action = {"id": "A01", "type": type_} if type_ else {}
        write_json(tmp_path / "pilots" / name / "pilot.json", {"action": action})

    return write


def test_only_tests_of_a_type_that_had_ended_count_and_arms_of_one_pilot_are_one_test(
    give: Callable[..., None], tmp_path: Path
) -> None:
    give("one", ("S01+S02", "treatment", 12.0))
    give("arms", ("S01", "app", 6.0), ("S01", "mail", 18.0))
    give("split", ("S01", "treatment", 9.0), ("S02", "treatment", 0.0), ("all", "treatment", 15.0))
    give("later", ("S01", "treatment", 50.0), end="2026-01-01")
    give("own idea", ("S01", "treatment", 50.0), type_="none")
    give("of segments", ("S01", "treatment", 50.0), type_="")
    found = past_tests(tmp_path / "pilots", before=BEFORE).set_index("pilot")
    assert found["effect"].round(9).to_dict() == {"arms": 0.12, "one": 0.12, "split": 0.15}
    assert found["customers"].to_dict() == {"arms": 1000, "one": 700, "split": 700}
    pooled = pool_tests(found.reset_index())
    check(pooled, name="pooled")
    (row,) = pooled.to_dict("records")
    assert row["tests"] == 3 and row["verdict"] == "works" and row["effect_low"] < 0.13 < row["effect_high"]
    run = SimpleNamespace(path=tmp_path / "2026-01-01", period=SimpleNamespace(as_of=BEFORE))
    pd.testing.assert_frame_equal(pool_readouts(run), pooled)


def test_without_a_test_there_is_no_row_and_no_sentence(tmp_path: Path) -> None:
    pooled = pool_tests(past_tests(tmp_path / "pilots", before=BEFORE))
    check(pooled, name="pooled")
    assert pooled.empty and describe_pooled(pooled) == [] == describe_pooled(None)


def test_types_are_shrunk_towards_each_other_and_more_tests_narrow_the_range() -> None:
    few = pd.DataFrame({"type": ["a", "b"], "kpi": "spend", "customers": 100, "effect": [0.0, 0.2], "error": 0.05})
    shrunk = pool_tests(few).set_index("type")
    assert 0 < shrunk.loc["a", "effect"] < shrunk.loc["b", "effect"] < 0.2
    many = pool_tests(pd.concat([few] * 6)).set_index("type")
    width = (many["effect_high"] - many["effect_low"]) / (shrunk["effect_high"] - shrunk["effect_low"])
    assert (width < 0.5).all()


def test_intervals_hold_in_at_least_93_of_100() -> None:
    rng = np.random.default_rng(5)
    holds = []
    for _ in range(150):
        true = 0.02 + 0.04 * rng.standard_normal(4)
        kind = np.repeat(range(4), rng.integers(1, 6, 4))
        error = rng.uniform(0.01, 0.05, len(kind))
        effect = true[kind] + np.hypot(0.02, error) * rng.standard_normal(len(kind))
        table = pd.DataFrame({"type": kind.astype(str), "kpi": "spend", "customers": 100})
        pooled = pool_tests(table.assign(effect=effect, error=error))
        holds += ((pooled["effect_low"] <= true) & (true <= pooled["effect_high"])).tolist()
    assert np.mean(holds) >= 0.93


def test_each_type_has_a_sentence_and_the_segments_it_is_best_for() -> None:
    row = {"type": "win_back", "kpi": "spend", "tests": 3, "customers": 900, "effect": 0.03}
    pooled = pd.DataFrame([row | {"effect_low": 0.018, "effect_high": 0.05, "verdict": "works"}])
    (words,) = describe_pooled(pooled)
    assert words == "Winning back customers: 3 earlier tests changed spend per customer by +2–5%, so it works."
    with speaking("de"):
        assert "3 frühere Tests änderten" in describe_pooled(pooled)[0]
    actions = pd.DataFrame({"joined": ["S01 S02", "S02 S03"], "type": ["onboard", "win_back"]})
    assert list(by_segment(pooled, actions=actions, kpi="spend")) == ["S03"]
    assert by_segment(pooled, actions=actions, kpi="orders") == {}


def test_a_file_that_is_no_readout_is_named(give: Callable[..., None], tmp_path: Path) -> None:
    give("one", ("S01", "treatment", 4.0))
    (tmp_path / "pilots" / "one" / "readout" / "readout.json").write_text("{}")
    with pytest.raises(InputError, match=r"readout.json: it is no read-out of a pilot. Remove it, or run") as refused:
        past_tests(tmp_path / "pilots", before=BEFORE)
    assert "\n" not in str(refused.value)
