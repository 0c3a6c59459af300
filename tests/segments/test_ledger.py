"""Ids and names last; what became of each segment, and why a customer moved, is put down as it was."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segkit.customers.features import CustomerData
from segkit.data.runs import Run, open_run
from segkit.errors import InputError, RunError
from segkit.segments.clustering import Budget
from segkit.segments.fit import Fit, FitData, fit_segments
from segkit.segments.lineage import (
    Overrides,
    _ledger_rows,
    apply_overrides,
    continue_lineage,
    highest_id,
    inherit_ids,
    inherit_names,
    match_segments,
    merge_equal_spend,
    previous_run,
    read_overrides,
    segments_under_model,
)
from segkit.segments.model import assign_points, model_from_arrays, model_to_arrays
from segkit.segments.moves import CHANGE_COLUMNS, customer_moves

NOTHING = Overrides(rename={}, merge={}, pin=())
Plant = Callable[..., tuple[FitData, np.ndarray]]


@pytest.fixture
def planted_fit(planted_windows: Plant) -> tuple[FitData, Fit]:
    windows, _ = planted_windows()
    return windows, fit_segments(windows, budget=Budget(min_segments=4, max_segments=6), n_subsamples=4)


def _shared(rows: dict[str, list[int]]) -> pd.DataFrame:
    return pd.DataFrame.from_dict(rows, orient="index")


def test_a_segment_that_goes_on_keeps_its_id_and_a_new_one_gets_a_number_never_used() -> None:
    ids, matched = inherit_ids(_shared({"S01": [90, 5, 5], "S04": [2, 2, 96]}), count=3, used=9)
    assert ids == ["S01", "S10", "S04"] and matched == {0: "S01", 2: "S04"}


def test_same_split_merged_and_died_are_kept_apart() -> None:
    shared = _shared({"S01": [60, 40, 0], "S02": [0, 0, 50], "S03": [0, 0, 45], "S04": [4, 3, 3]})
    ids, matched = inherit_ids(shared, count=3, used=4)
    events = _ledger_rows(shared, ids=ids, matched=matched, as_of="2018-01-01").set_index("segment")
    assert events["event"].to_dict() == {"S01": "same", "S05": "split", "S02": "same", "S03": "merged", "S04": "died"}
    assert events.loc["S05", "other"] == "S01" and events.loc["S03", "other"] == "S02"
    assert events.loc["S01", ["customers_before", "customers_after"]].tolist() == [100, 64]


def test_a_move_is_put_down_to_the_customer_or_to_the_definition() -> None:
    moves = customer_moves(
        pd.Series({"a": "S01", "b": "S01", "c": "S01", "d": "S01", "gone": "S02"}),
        pd.Series({"a": "S01", "b": "S02", "c": "S01", "d": "S02", "new": "S01"}),
        pd.Series({"a": "S01", "b": "S02", "c": "S02", "d": "S03", "new": "S01"}),
    )
    assert dict(zip(moves["customer_id"], moves["cause"], strict=True)) == {
        "a": "stayed", "b": "customer", "c": "definition", "d": "both", "gone": "left", "new": "joined",
    }  # fmt: skip


def test_a_move_names_the_level_and_the_need_that_changed() -> None:
    places = pd.DataFrame(
        [(2, "M1", "tea"), (2, "M1", ""), (1, "M2", "tea"), (1, "M2", "wine"), (1, "M2", ""), (0, "M3", "")],
        columns=["level", "macro_segment", "need"],
        index=["Top tea", "Top open", "Core tea", "Core wine", "Core open", "Low"],
    )
    pairs = {
        "switched": ("Core tea", "Core wine"),
        "left": ("Core wine", "Core open"),
        "both": ("Core open", "Top tea"),
        "no wine up there": ("Core wine", "Top open"),
        "whole level": ("Low", "Core tea"),
        "same": ("Low", "Low"),
        "unknown": ("Gone", "Low"),
    }
    before, now = ({who: pair[i] for who, pair in pairs.items()} for i in (0, 1))
    moves = customer_moves(*(pd.Series(each) for each in (before, now, now)), places=places).set_index("customer_id")
    found = moves[CHANGE_COLUMNS].astype(object).where(moves[CHANGE_COLUMNS].notna(), None)
    assert {who: tuple(row) for who, row in zip(found.index, found.to_numpy(), strict=True)} == {
        "switched": (None, None, None, "tea", "wine"),
        "left": (None, None, None, "wine", None),
        "both": ("up", "M2", "M1", None, "tea"),
        "no wine up there": ("up", "M2", "M1", None, None),
        "whole level": ("up", "M3", "M2", None, None),
        "same": (None,) * 5,
        "unknown": (None,) * 5,
    }


def test_a_refit_of_the_same_customers_carries_every_id_on(planted_fit: tuple[FitData, Fit]) -> None:
    windows, fit = planted_fit
    old = replace(fit.model, segments=tuple(f"S{i + 31}" for i in range(len(fit.model.segments))))
    refit, standing, events = match_segments(fit, now=windows.now, old=old, used=50, as_of="2018-01-01")
    assert refit.model.segments == old.segments and set(events["event"]) == {"same"}
    assert standing.tolist() == [old.segments[i] for i in fit.segment_number]


def test_names_that_were_given_stay_and_a_newcomer_may_not_take_one() -> None:
    names = inherit_names({"S01": "Fading beers", "S02": "Steady tea", "S09": "Steady wine"}, {"S01": "Steady wine"})
    assert names == {"S01": "Steady wine", "S02": "Steady tea", "S09": "Steady wine S09"}


def _finished(fit: Fit, *, now: CustomerData, folder: Path) -> Run:
    run = open_run(folder, step="03_segments", outcome="building", as_of="2018-01-01")
    first = continue_lineage(fit, now=now, previous=None, overrides=NOTHING, as_of="2018-01-01")
    placed = assign_points(fit.model, fit.axes)
    run.write(placed.assign(core=True, x=0.0, y=0.0), "assignments")
    run.write(first.ledger, "ledger")
    (folder / "tables" / "segments.parquet").write_bytes(b"")
    named = pd.DataFrame({"segment": fit.model.segments, "name": [f"Name {s}" for s in fit.model.segments]})
    named.to_parquet(folder / "tables" / "segments.parquet")
    arrays, meta = model_to_arrays(fit.model)
    run.save_model(arrays, meta=meta)
    return run


def test_the_ledger_grows_and_old_names_and_decisions_last(planted_fit: tuple[FitData, Fit], tmp_path: Path) -> None:
    windows, fit = planted_fit
    previous = _finished(fit, now=windows.now, folder=tmp_path / "before")
    decided = Overrides(rename={"S02": "Tea"}, merge={"S03": "S01"}, pin=("S04",))
    after = continue_lineage(fit, now=windows.now, previous=previous, overrides=decided, as_of="2018-02-01")
    assert after.ledger["as_of"].value_counts().to_dict() == dict.fromkeys(
        ("2018-01-01", "2018-02-01"), len(fit.model.segments)
    )
    assert highest_id(after.ledger) == len(fit.model.segments)
    assert after.names == {"S02": "Tea"} and "Name S01" in set(after.earlier["name"])
    placed = assign_points(after.fit.model, after.fit.axes)["segment"]
    new = after.ledger[after.ledger["as_of"] == "2018-02-01"].set_index("segment")
    sizes = placed.value_counts().reindex(new.index, fill_value=0)
    assert new["customers_after"].to_dict() == sizes.to_dict(), "sizes once pins and merges are applied"
    assert new.loc["S03", ["event", "other"]].tolist() == ["merged", "S01"]
    assert (
        "S03" not in set(placed) and after.moves is not None and set(after.moves["cause"]) <= {"stayed", "definition"}
    )


def test_a_previous_run_of_another_source_is_refused_by_name(planted_fit: tuple[FitData, Fit]) -> None:
    windows, fit = planted_fit
    old = replace(fit.model, space=replace(fit.model.space, features=("logins", *fit.model.space.features[1:])))
    with pytest.raises(RunError, match=r"previous run: its model reads \['logins'\].*--previous none"):
        match_segments(fit, now=windows.now, old=old, used=1, as_of="2018-01-01")


def test_a_channel_that_fell_out_of_use_does_not_stop_the_next_run(planted_fit: tuple[FitData, Fit]) -> None:
    windows, fit = planted_fit
    space = fit.model.space
    wider = replace(
        space,
        features=(*space.features, "channel_fax_share"),
        mean=np.append(space.mean, 0.0),
        scale=np.append(space.scale, 1.0),
        behaviour_outcomes=np.vstack([space.behaviour_outcomes, np.ones(space.behaviour_outcomes.shape[1])]),
    )
    standing = segments_under_model(replace(fit.model, space=wider), windows.now)
    assert standing.tolist() == [fit.model.segments[i] for i in fit.segment_number]


def test_a_previous_run_is_of_the_same_source_or_refused(tmp_path: Path) -> None:
    shop, club = (open_run(tmp_path / name, source_name=name) for name in ("shop", "club"))
    assert previous_run("", of=shop) is None
    assert previous_run(str(shop.path), of=shop).path == shop.path
    words = r"previous run: club is of the source 'club', this one of 'shop'.*--previous none"
    with pytest.raises(RunError, match=words):
        previous_run(str(club.path), of=shop)


def test_the_model_of_another_version_is_refused_by_what_it_lacks(planted_fit: tuple[FitData, Fit]) -> None:
    arrays, meta = model_to_arrays(planted_fit[1].model)
    old = {name: array for name, array in arrays.items() if name != "space_share_outcomes"}
    with pytest.raises(RunError, match=r"no space_share_outcomes in it, so another version of segkit made it"):
        model_from_arrays(old, meta)


def test_a_pinned_segment_keeps_the_middle_of_those_it_had(planted_fit: tuple[FitData, Fit]) -> None:
    _, fit = planted_fit
    standing = pd.Series(np.where(np.arange(len(fit.segment_number)) < 30, "S01", "S02"), index=fit.axes.index)
    pinned = apply_overrides(fit, Overrides(rename={}, merge={}, pin=("S01",)), standing=standing)
    assert np.allclose(pinned.model.centres[0, 1:], fit.axes.iloc[:30, 1:].mean())
    assert (pinned.model.centres[:, 0] == fit.model.centres[:, 0]).all(), "a level stays as it is"


def test_decisions_about_nothing_and_broken_files_are_refused(planted_fit: tuple[FitData, Fit], tmp_path: Path) -> None:
    _, fit = planted_fit
    with pytest.raises(InputError, match=r"overrides: \['S99'\] are no segments"):
        apply_overrides(fit, Overrides(rename={"S99": "x"}, merge={}, pin=()), standing=None)
    assert read_overrides(tmp_path / "none.yaml") == NOTHING
    broken = (
        ("rename: [a", "not valid YAML"),
        ("renam: {S01: x}", "overrides.yaml: unknown key 'renam'. Did you mean 'rename'"),
        ("pin: S01", "overrides.yaml: pin: found 'S01', expected a list of ids, e.g. "),
        ("[S01]", "expected a mapping with rename, merge, pin"),
        ("merge: {S05: [S03]}\nrename: [S01]", r"2 problems. \(1\) merge 'S05': found .* \(2\) rename: found"),
    )
    for text, words in broken:
        (tmp_path / "overrides.yaml").write_text(text)
        with pytest.raises(InputError, match=words):
            read_overrides(tmp_path / "overrides.yaml")


def test_segments_of_one_need_that_spend_the_same_are_one(planted_fit: tuple[FitData, Fit]) -> None:
    _, fit = planted_fit
    model, size = fit.model, len(fit.model.segments)
    level = np.arange(size)[::-1].copy()
    model = replace(model, need=("N01", "N01", *("N02",) * (size - 2)), level=level)
    spend = pd.Series(np.array([100.0, 99.0, *range(90, 90 - 10 * (size - 2), -10)])[fit.segment_number])
    found = merge_equal_spend(replace(fit, model=model), spend, overrides=NOTHING)
    larger, smaller = sorted((0, 1), key=lambda i: -(fit.segment_number == i).sum())
    assert found.merge == {model.segments[smaller]: model.segments[larger]}
    decided = Overrides(rename={"S01": "Tea"})
    assert merge_equal_spend(replace(fit, model=model), spend, overrides=decided) == decided
    assert merge_equal_spend(fit, None, overrides=NOTHING) == NOTHING
