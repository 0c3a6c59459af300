"""Keep segments recognisable from run to run: ledger, overrides, and the previous run's model."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree

from segkit.customers.anticipation import Anticipation, anticipate
from segkit.customers.features import CustomerData
from segkit.data.runs import Run, load_run, load_run_privacy
from segkit.data.yaml_models import OneOrMore, Text, YamlModel, parse_yaml, read_utf8
from segkit.errors import InputError, RunError
from segkit.segments.fit import Fit
from segkit.segments.model import (
    SegmentModel,
    assign_points,
    assign_segments,
    model_from_arrays,
    model_to_arrays,
    nearest_centre,
)
from segkit.segments.moves import customer_moves, segment_places
from segkit.tables import KEPT_SEGMENTS, needed_of_last_run
from segkit.vocabulary import block_of


class Overrides(YamlModel):
    """Decisions by people.

    By segment id: new names, the id that another is merged into, and ids whose definition is kept; and what is never
    offered.
    """

    rename: dict[Text, Text] = Field({}, description="a name for each id, e.g. {S07: Wine lovers}")
    merge: dict[Text, Text] = Field({}, description="the id that another is counted as, e.g. {S05: S03}")
    pin: tuple[Text, ...] = Field((), description="a list of ids, e.g. [S02]")
    never_offer: Annotated[tuple[Text, ...], OneOrMore] = Field(
        (), description="a list of things, needs or words of the lexicon, e.g. [cigarettes]"
    )

    def sentences(self) -> list[str]:
        """Return each decision as a sentence."""
        sentences = [f"{segment} is called {name}." for segment, name in sorted(self.rename.items())]
        sentences += [f"{segment} is counted as {into}." for segment, into in sorted(self.merge.items())]
        sentences += [f"{segment} keeps its definition." for segment in self.pin]
        return sentences + [f"{thing} is never offered." for thing in self.never_offer]


def read_overrides(path: str | Path) -> Overrides:
    """Read the decisions in a YAML file; there are none without a file.

    Raises
    ------
    InputError
        Not YAML, or other keys or values than those above.
    """
    file = Path(path)
    if not str(path) or not file.is_file():
        return Overrides()
    return parse_yaml(read_utf8(file), Overrides, label=file.name)


def apply_overrides(fit: Fit, overrides: Overrides, *, standing: pd.Series | None) -> Fit:
    """Pin and merge segments of a fit (names are for the segment table).

    Parameters
    ----------
    fit
        A fit with its final ids.
    overrides
        The decisions.
    standing
        Today's segment of each customer under the old model, in order; None in a first run.

    Raises
    ------
    InputError
        A decision is about an id that does not exist.
    """
    segment_ids = set(fit.model.segments) | (set(standing) if standing is not None else set())
    asked = {*overrides.rename, *overrides.merge, *overrides.merge.values(), *overrides.pin}
    if asked - segment_ids:
        raise InputError(
            f"overrides: {sorted(asked - segment_ids)} are no segments; there are {', '.join(sorted(segment_ids))}. "
            f"Fix overrides.yaml."
        )
    centres = fit.model.centres.copy()
    points = fit.axes.to_numpy()
    for segment in overrides.pin:
        members = standing.eq(segment).to_numpy() if standing is not None else np.zeros(len(points), dtype=bool)
        if members.any() and segment in fit.model.segments:
            centres[fit.model.segments.index(segment), 1:] = points[members, 1:].mean(axis=0)
    levels = {"borders": fit.model.borders, "level": fit.model.level}
    bag_segment = nearest_centre(fit.model.bag_centres, centres, **levels)
    model = merge_segments(replace(fit.model, centres=centres, bag_segment=bag_segment), overrides.merge)
    return replace(fit, model=model, segment_number=nearest_centre(points, centres, **levels))


def merge_segments(model: SegmentModel, merges: Mapping[str, str]) -> SegmentModel:
    """Count segments as others (id -> id), with the macro segment and the need of those."""
    into = [merges.get(segment, segment) for segment in model.segments]
    own = [model.segments.index(one) if one in model.segments else i for i, one in enumerate(into)]
    macro, need = (tuple(of[i] for i in own) for of in (model.macro, model.need))
    return replace(model, segments=tuple(into), macro=macro, need=need)


SAME_SPEND = 1.05  # times; segments of one need whose mean spends are closer than this differ in no money


def merge_equal_spend(fit: Fit, spend: pd.Series | None, *, overrides: Overrides) -> Overrides:
    """Add merges of segments of one need at different levels of value that spend the same, as where prices are fixed.

    The larger one stays. Segments that a person decided on are left alone.

    Parameters
    ----------
    fit
        A fit with its final ids.
    spend
        Of the same customers, in the same order; None without money.
    overrides
        The decisions.
    """
    if spend is None:
        return overrides
    model, number = fit.model, fit.segment_number
    sizes = np.bincount(number, minlength=len(model.segments))
    mean = np.bincount(number, spend.to_numpy(), minlength=len(sizes)) / np.maximum(sizes, 1)
    decided = {*overrides.rename, *overrides.merge, *overrides.merge.values(), *overrides.pin}
    usable = [i for i in np.argsort(-mean, kind="stable") if model.need[i] and model.segments[i] not in decided]
    merge, groups = dict(overrides.merge), {}
    for i in usable:
        own = groups.setdefault(model.need[i], [[i]])
        if i != own[-1][0]:
            own.append([i]) if mean[own[-1][0]] > SAME_SPEND * mean[i] else own[-1].append(i)
    for alike in (group for own in groups.values() for group in own):
        kept = max(alike, key=lambda i: (sizes[i], -i))
        merge |= {model.segments[i]: model.segments[kept] for i in alike if i != kept}
    return overrides.model_copy(update={"merge": merge})


ENDED = ("merged", "died")  # events of segments that are gone
MIN_OVERLAP = 0.3  # Jaccard overlap from which a new segment continues an old one
MIN_TRANSFER_SHARE = 0.5  # share of an old (new) segment in one new (old) one for a merge (split)
LEDGER_COLUMNS = ["as_of", "segment", "event", "other", "overlap", "customers_before", "customers_after"]


@dataclass(frozen=True)
class Lineage:
    """Hold a refit that continues the previous run.

    Parameters
    ----------
    fit
        With final ids and decisions applied.
    ledger, moves
        The whole ledger; customers' moves since the previous run (None in a first run).
    names
        Names given by a person, by segment.
    earlier
        The segment table of the previous run.
    """

    fit: Fit
    ledger: pd.DataFrame
    moves: pd.DataFrame | None
    names: dict[str, str]
    earlier: pd.DataFrame | None = None


def previous_run(path: str, *, of: Run) -> Run | None:
    """Open the run whose ids and names are continued; None for an empty path.

    Raises
    ------
    RunError
        Not a run, or one of another source.
    """
    if not path:
        return None
    found = load_run(path)
    names = [run.parameters().get("source_name") for run in (found, of)]
    if names[0] != names[1]:
        raise RunError(
            f"previous run: {found.path.name} is of the source '{names[0]}', this one of '{names[1]}'. "
            f"Give a run of the same source with --previous, or --previous none."
        )
    return replace(found, erased=load_run_privacy(of))


def continue_lineage(fit: Fit, *, now: CustomerData, previous: Run | None, overrides: Overrides, as_of: str) -> Lineage:
    """Continue the previous run's ids, names and ledger in a refit, and apply the overrides.

    Parameters
    ----------
    fit
        The new fit.
    now
        The same customers, in the same order.
    previous
        A finished run of the same source; None in a first run.
    overrides
        Decisions of the analyst.
    as_of
        Date of the refit, for the ledger.

    Raises
    ------
    RunError
        The previous run is of another source or format.
    InputError
        A decision is about a segment that does not exist.
    """
    if previous is None:
        alike = merge_equal_spend(fit, now.features.get("spend"), overrides=overrides)
        overridden = apply_overrides(fit, alike, standing=None)
        rows = first_ledger_rows(fit, as_of=as_of)
        sizes = rows["customers_after"].groupby(rows["segment"].replace(alike.merge)).sum()
        rows = rows[~rows["segment"].isin(alike.merge.keys() - overrides.merge.keys())].reset_index(drop=True)
        rows["customers_after"] = rows["segment"].map(sizes).fillna(0).astype("int64")
        return Lineage(fit=overridden, ledger=rows, moves=None, names=dict(overrides.rename))
    old = model_from_arrays(*previous.load_model())
    ledger = previous.table("ledger")
    before = previous.table("assignments").set_index("customer_id")["segment"]
    used = highest_id(ledger)
    refit, standing, events = match_segments(fit, now=now, old=old, used=used, as_of=as_of, previous_segment=before)
    alike = merge_equal_spend(refit, now.features.get("spend"), overrides=overrides)
    overridden = apply_overrides(refit, alike, standing=standing)
    after = pd.Series(
        np.array(overridden.model.segments, dtype=object)[overridden.segment_number], index=now.features.index
    )
    events = _with_final_sizes(events, standing, after, merge=alike.merge)
    unseen = alike.merge.keys() - overrides.merge.keys() - set(standing)  # merged before anyone saw them
    events = events[~events["segment"].isin(unseen)]
    return Lineage(
        fit=overridden,
        ledger=pd.concat([ledger, events], ignore_index=True),
        moves=customer_moves(before, standing, after, places=segment_places(old)),
        names=dict(overrides.rename),
        earlier=previous.table("segments"),
    )


def match_segments(
    fit: Fit, *, now: CustomerData, old: SegmentModel, used: int, as_of: str, previous_segment: pd.Series | None = None
) -> tuple[Fit, pd.Series, pd.DataFrame]:
    """Give the segments of a refit the ids of the old segments that they continue.

    Parameters
    ----------
    fit
        The new fit, with any ids.
    now
        The same customers, in the same order.
    old
        The previous run's model.
    used
        Highest number of an id ever given; a new segment gets a higher one.
    as_of
        Date of the refit, for the ledger.
    previous_segment
        Segment in the previous run by customer_id, kept near a border of the old model.

    Returns
    -------
    Fit
        With final ids.
    pandas.Series
        Today's segment of each customer under the old model.
    pandas.DataFrame
        New rows of the ledger: one for each new segment, and one for each old segment that ended.

    Raises
    ------
    RunError
        The old model reads features that these customers do not have.
    """
    standing = segments_under_model(old, now, previous_segment=previous_segment)
    shared = pd.crosstab(standing.to_numpy(), fit.segment_number)
    ids, matched = inherit_ids(shared, count=len(fit.model.segments), used=used)
    model = replace(fit.model, segments=tuple(ids))
    events = _ledger_rows(shared, ids=ids, matched=matched, as_of=as_of)
    return replace(fit, model=model), standing, events


def segments_under_model(
    old: SegmentModel, now: CustomerData, *, previous_segment: pd.Series | None = None
) -> pd.Series:
    """Return the segment of today's customers under the old model, by customer_id."""
    return assign_under_model(old, now, previous_segment=previous_segment)["segment"]


def assign_under_model(
    old: SegmentModel, now: CustomerData, *, previous_segment: pd.Series | None = None
) -> pd.DataFrame:
    """Assign today's customers with the old model; as `assign_segments`.

    Raises
    ------
    RunError
        The old model reads features that these customers do not have.
    """
    return assign_segments(old, align_to_model(old, now), previous_segment=previous_segment)


def align_to_model(old: SegmentModel, now: CustomerData) -> CustomerData:
    """Return today's customers with all features of the old model; a channel that is no longer used has no share.

    Raises
    ------
    RunError
        The old model reads features that these customers do not have.
    """
    missing = sorted(set(old.space.features) - set(now.features.columns))
    unknown = [name for name in missing if block_of(name) != "channel"]
    if unknown:
        raise RunError(
            f"previous run: its model reads {unknown[:5]} ({len(unknown)} features), which this source does not have. "
            f"Give a run of the same source with --previous, or --previous none. If other data has the same name, "
            f"change 'name' in one of the sources."
        )
    filled = now.features.assign(**dict.fromkeys(missing, 0.0))
    return replace(now, features=filled)


def first_ledger_rows(fit: Fit, *, as_of: str) -> pd.DataFrame:
    """Return the ledger of a first run: every segment is born."""
    sizes = pd.Series(fit.segment_number).value_counts()
    rows = [(as_of, s, "born", "", np.nan, 0, int(sizes.get(i, 0))) for i, s in enumerate(fit.model.segments)]
    return pd.DataFrame(rows, columns=LEDGER_COLUMNS)


def highest_id(ledger: pd.DataFrame) -> int:
    """Return the highest number of an id in a ledger."""
    return max((int(s[1:]) for s in ledger["segment"]), default=0)


def inherit_names(names: Mapping[str, str], old: Mapping[str, str]) -> dict[str, str]:
    """Return names by segment: old ones remain; a new segment whose name is taken has its id appended."""
    names_by_segment = {segment: old.get(segment, name) for segment, name in names.items()}
    taken = {names_by_segment[segment] for segment in names_by_segment if segment in old}
    return {s: f"{n} {s}" if s not in old and n in taken else n for s, n in names_by_segment.items()}


def inherit_ids(shared: pd.DataFrame, *, count: int, used: int) -> tuple[list[str], dict[int, str]]:
    """Match new segments one-to-one with old ones by Jaccard overlap; the others get unused numbers."""
    table = shared.reindex(columns=range(count), fill_value=0).to_numpy()
    overlap = table / (table.sum(axis=1)[:, None] + table.sum(axis=0)[None, :] - table)
    matched = {
        int(new): str(shared.index[old])
        for old, new in zip(*linear_sum_assignment(-overlap), strict=True)
        if overlap[old, new] >= MIN_OVERLAP
    }
    fresh = iter(range(used + 1, used + count + 1))
    return [matched[new] if new in matched else f"S{next(fresh):02d}" for new in range(count)], matched


def _ledger_rows(shared: pd.DataFrame, *, ids: list[str], matched: dict[int, str], as_of: str) -> pd.DataFrame:
    """Return a row for each new segment (same, split, born) and for each old one that ended (merged, died)."""
    table = shared.reindex(columns=range(len(ids)), fill_value=0)
    before, after = table.sum(axis=1), table.sum(axis=0)
    rows = []
    for new, segment in enumerate(ids):
        source = table[new].idxmax()
        part = table.loc[source, new] / max(after[new], 1)
        event = "same" if new in matched else "split" if part >= MIN_TRANSFER_SHARE else "born"
        other = segment if event == "same" else source if event == "split" else ""
        before_count = before[other] if other else 0
        overlap = _overlap(table, other, new) if other else np.nan
        rows.append((as_of, segment, event, other, overlap, int(before_count), int(after[new])))
    for old in table.index:
        if old not in matched.values():
            into = int(table.loc[old].idxmax())
            merged = table.loc[old, into] / max(before[old], 1) >= MIN_TRANSFER_SHARE
            overlap = _overlap(table, old, into)
            event, other = ("merged", ids[into]) if merged else ("died", "")
            rows.append((as_of, old, event, other, overlap, int(before[old]), 0))
    return pd.DataFrame(rows, columns=LEDGER_COLUMNS)


def _with_final_sizes(
    events: pd.DataFrame, standing: pd.Series, after: pd.Series, *, merge: Mapping[str, str]
) -> pd.DataFrame:
    """Return the new rows of the ledger with the sizes that segments have once pins and merges are applied."""
    shared, sizes = pd.crosstab(standing.to_numpy(), after.to_numpy()), after.value_counts()
    events = events.assign(customers_after=[int(sizes.get(segment, 0)) for segment in events["segment"]])
    is_merged = events["segment"].isin([segment for segment in merge if segment not in sizes])
    events.loc[is_merged, "event"] = "merged"
    events.loc[is_merged, "other"] = events.loc[is_merged, "segment"].map(merge)
    both = zip(events["segment"], events["other"], events["event"], strict=True)
    pairs = [(segment, other) if event in ENDED else (other, segment) for segment, other, event in both]
    overlap = [
        _overlap(shared, old, new) if old in shared.index and new in shared.columns else np.nan for old, new in pairs
    ]
    return events.assign(overlap=overlap)


def _overlap(table: pd.DataFrame, old: str, new: int) -> float:
    """Return the Jaccard overlap of an old and a new segment."""
    both = table.loc[old, new]
    return float(both / (table.loc[old].sum() + table[new].sum() - both))


PROOF_COLUMNS = ("stability", "stability_low", "stability_high", "verdict")  # columns of the table segments
PROOF_METRIC_PREFIXES = (
    "forward.",
    "stability.",
    "structure.",
    "blocks.",
    "predictability.",
    "segments.noise",
    "segments.hdbscan",
)
MAP_NEIGHBOURS = 3  # nearest customers of the previous run, which set a map position


@dataclass(frozen=True)
class Reassignment:
    """Hold the customers of a run under the previous model.

    Parameters
    ----------
    model, expected
        The model, and the expected outcomes of everyone.
    assigned, core, coords
        By customer_id: segment, macro_segment, confidence; the core flag; x and y on the map.
    ledger, moves
        The whole ledger; moves since the previous run.
    names
        Names given by a person, by segment.
    earlier
        The segment table of the previous run.
    fitted_as_of
        ISO date of the fit.
    """

    model: SegmentModel
    expected: Anticipation
    assigned: pd.DataFrame
    core: pd.Series
    coords: pd.DataFrame
    ledger: pd.DataFrame
    moves: pd.DataFrame
    names: dict[str, str]
    earlier: pd.DataFrame
    fitted_as_of: str


def load_kept_run(path: str, *, of: Run) -> Run:
    """Open the run whose segments are kept.

    Raises
    ------
    RunError
        None is given, or it is not a run, is of another source, or lacks a table that is needed.
    """
    found = previous_run(path, of=of)
    if found is None:
        raise RunError("previous: no run is given. Give the run whose segments are kept; `segkit run --auto` finds it.")
    missing = [name for name in needed_of_last_run(KEPT_SEGMENTS) if not found.has(name)]
    if missing:
        raise RunError(
            f"previous run: {found.path.name} has no {', '.join(missing)}, so its segments cannot be kept. "
            f"Give a run of all steps, or run without --auto."
        )
    return found


def assign_with_previous_model(previous: Run, now: CustomerData, *, overrides: Overrides, as_of: str) -> Reassignment:
    """Assign customers with the previous run's model, without refitting.

    Parameters
    ----------
    previous
        A finished run with all tables that are needed.
    now
        Customers today.
    overrides
        Decisions of the analyst.
    as_of
        Date of the run, for the ledger.

    Raises
    ------
    RunError
        The model reads features that these customers do not have.
    InputError
        A decision is about a segment that does not exist, or nobody was active.
    """
    if now.features.empty:
        raise InputError(f"as_of {as_of}: nobody did anything in the lookback. Check the source, or give another date.")
    ledger = previous.table("ledger")
    model = apply_merges(model_from_arrays(*previous.load_model()), overrides, segment_ids=set(ledger["segment"]))
    expected = anticipate(model.space, align_to_model(model, now))
    before = previous.table("assignments").set_index("customer_id")["segment"]
    before = before.replace(overrides.merge)
    assigned = assign_points(model, expected.axes, previous_segment=before)
    coords, core = _previous_map_positions(previous, expected.axes)
    sizes = assigned["segment"].value_counts()
    rows = [(as_of, s, "same", s, 1.0, int(sizes.get(s, 0)), int(sizes.get(s, 0))) for s in sorted(set(model.segments))]
    entries = pd.DataFrame(rows, columns=LEDGER_COLUMNS)
    return Reassignment(
        model=model,
        expected=expected,
        assigned=assigned,
        core=core,
        coords=coords,
        ledger=pd.concat([ledger, entries], ignore_index=True),
        moves=customer_moves(before, assigned["segment"], assigned["segment"], places=segment_places(model)),
        names=dict(overrides.rename),
        earlier=previous.table("segments"),
        fitted_as_of=fitted_as_of(previous),
    )


def place_on_previous_map(previous: Run, now: CustomerData) -> tuple[Anticipation, pd.DataFrame, str]:
    """Return what customers are expected to do by the previous model, their place on its map, and the date of both."""
    model = model_from_arrays(*previous.load_model())
    expected = anticipate(model.space, align_to_model(model, now))
    return expected, _previous_map_positions(previous, expected.axes)[0], fitted_as_of(previous)


def fitted_as_of(run: Run) -> str:
    """Return the date on which the segments of a run were fitted: its own, or an earlier one for a reused model."""
    return str(run.load_model()[1].get("fitted_as_of") or run.parameters()["as_of"])


def apply_merges(model: SegmentModel, overrides: Overrides, *, segment_ids: set[str]) -> SegmentModel:
    """Merge segments of a reused model; nothing has to be pinned, as no definition changes.

    Parameters
    ----------
    model
        The previous run's model.
    overrides
        Decisions of the analyst.
    segment_ids
        Every id that ever existed.

    Raises
    ------
    InputError
        A decision is about an id that does not exist.
    """
    asked = {*overrides.rename, *overrides.merge, *overrides.merge.values(), *overrides.pin} - segment_ids
    if asked:
        listed = ", ".join(sorted(set(model.segments)))
        raise InputError(f"overrides: {sorted(asked)} are no segments; there are {listed}. Fix overrides.yaml.")
    return merge_segments(model, overrides.merge)


def add_previous_proof(segments: pd.DataFrame, previous: Run) -> pd.DataFrame:
    """Return the segment table with stability and verdict as measured when the segments were fitted."""
    previous_proof = previous.table("segments").set_index("segment")[list(PROOF_COLUMNS)]
    aligned = previous_proof.reindex(segments["segment"]).reset_index(drop=True)
    return segments.assign(**{name: aligned[name].set_axis(segments.index) for name in PROOF_COLUMNS})


def previous_proof_metrics(previous: Run, *, fitted_as_of: str) -> dict[str, object]:
    """Return the metrics of the proof as measured when the segments were fitted, and that date."""
    metrics = {name: value for name, value in previous.summary().items() if name.startswith(PROOF_METRIC_PREFIXES)}
    return {**metrics, "segments.found_as_of": fitted_as_of}


def reassigned_model_arrays(
    reassignment: Reassignment, previous: Run
) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """Return the model as a run stores it, with the previous run's other values and the date of its fit."""
    arrays, values = model_to_arrays(reassignment.model)
    return arrays, {**previous.load_model()[1], **values, "fitted_as_of": reassignment.fitted_as_of}


def _previous_map_positions(previous: Run, axes: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
    """Interpolate each customer's map position and core flag from the nearest customers of the previous run."""
    before = previous.table("anticipation").set_index("customer_id")[list(axes.columns)]
    assigned = previous.table("assignments").set_index("customer_id").loc[before.index]
    distance, row = KDTree(before.to_numpy()).query(axes.to_numpy(), k=min(MAP_NEIGHBOURS, len(before)))
    distance, row = distance.reshape(len(axes), -1), row.reshape(len(axes), -1)
    weights = 1.0 / np.maximum(distance, 1e-9) ** 2
    weights /= weights.sum(axis=1, keepdims=True)
    positions = assigned[["x", "y"]].to_numpy()
    coords = (positions[row] * weights[:, :, None]).sum(axis=1).round(9)
    core = pd.Series(assigned["core"].to_numpy()[row[:, 0]], index=axes.index)
    return pd.DataFrame(coords, index=axes.index, columns=["x", "y"]), core
