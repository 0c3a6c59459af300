"""Keep segments recognisable from run to run: ledger, overrides, previous model, another number of segments."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree

from segkit.customers.anticipation import Anticipation, anticipate
from segkit.customers.features import CustomerData
from segkit.data.runs import Run, load_run
from segkit.data.yaml_models import Text, YamlModel, parse_yaml, read_utf8
from segkit.errors import InputError, RunError
from segkit.segments.clustering import Budget, Subsamples, macro_groups, search
from segkit.segments.fit import Fit, FitData, read_training_windows
from segkit.segments.model import (
    SegmentModel,
    assign_points,
    assign_segments,
    model_from_arrays,
    model_to_arrays,
    nearest_centre,
)
from segkit.tables import STANDING_SEGMENTS, needed_of_last_run
from segkit.vocabulary import block_of


class Overrides(YamlModel):
    """Decisions by segment id: new names, the id another is counted as, and ids whose definition is kept."""

    rename: dict[Text, Text] = Field({}, description="a name for each id, e.g. {S07: Wine lovers}")
    merge: dict[Text, Text] = Field({}, description="the id that another is counted as, e.g. {S05: S03}")
    pin: tuple[Text, ...] = Field((), description="a list of ids, e.g. [S02]")

    def sentences(self) -> list[str]:
        """Each decision as a sentence."""
        sentences = [f"{segment} is called {name}." for segment, name in sorted(self.rename.items())]
        sentences += [f"{segment} is counted as {into}." for segment, into in sorted(self.merge.items())]
        return sentences + [f"{segment} keeps its definition." for segment in self.pin]


def read_overrides(path: str | Path) -> Overrides:
    """The decisions in a YAML file; none where there is no file.

    Raises
    ------
    InputError : not YAML, or other keys or values than the three above
    """
    file = Path(path)
    if not str(path) or not file.is_file():
        return Overrides()
    return parse_yaml(read_utf8(file), Overrides, label=file.name)


def apply_overrides(fit: Fit, overrides: Overrides, *, standing: pd.Series | None) -> Fit:
    """Pin and merge segments of a fit with lasting ids (names are for the segment table).

    Takes  fit; standing: today's segment of each customer under the old model, in order; None at a first run
    Gives  the fit with its centres and ids as decided

    Raises
    ------
    InputError : a decision is about an id that is not there
    """
    segment_ids = set(fit.model.segments) | (set(standing) if standing is not None else set())
    asked = {*overrides.rename, *overrides.merge, *overrides.merge.values(), *overrides.pin}
    if asked - segment_ids:
        raise InputError(
            f"overrides: {sorted(asked - segment_ids)} are no segments; there are {', '.join(sorted(segment_ids))}. "
            f"Mend overrides.yaml."
        )
    centres = fit.model.centres.copy()
    points = fit.axes.to_numpy()
    for segment in overrides.pin:
        members = standing.eq(segment).to_numpy() if standing is not None else np.zeros(len(points), dtype=bool)
        if members.any() and segment in fit.model.segments:
            centres[fit.model.segments.index(segment)] = points[members].mean(axis=0)
    model = replace(
        fit.model,
        centres=centres,
        bag_segment=nearest_centre(fit.model.bag_centres, centres),
        segments=tuple(overrides.merge.get(s, s) for s in fit.model.segments),
    )
    return replace(fit, model=model, segment_number=nearest_centre(points, centres))


MIN_OVERLAP = 0.3  # Jaccard overlap, today, from which a new segment carries on an old one
MIN_TRANSFER_SHARE = 0.5  # share of an old (new) segment that has to come together for a merge (split)
LEDGER_COLUMNS = ["as_of", "segment", "event", "other", "overlap", "customers_before", "customers_after"]
MOVE_COLUMNS = ["customer_id", "before", "standing", "after", "cause"]


@dataclass(frozen=True)
class Lineage:
    """A fit under its lasting ids and decisions; the whole ledger; customers' moves (None at a first run); names that
    stay, by segment.
    """

    fit: Fit
    ledger: pd.DataFrame
    moves: pd.DataFrame | None
    names: dict[str, str]


def previous_run(path: str, *, of: Run) -> Run | None:
    """The finished run whose ids and names are carried on; None for an empty path.

    Raises
    ------
    RunError : not a run, or one of another source
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
    return found


def continue_lineage(fit: Fit, *, now: CustomerData, previous: Run | None, overrides: Overrides, as_of: str) -> Lineage:
    """Carry the previous run's ids, names and ledger on to a refit, and do what a person decided.

    Takes  fit: new; now: signals of the same customers, in the same order; previous: a finished run of the same source
    Gives  Lasting

    Raises
    ------
    RunError : the previous run is of another source or make
    InputError : a decision is about a segment that is not there
    """
    if previous is None:
        decided = apply_overrides(fit, overrides, standing=None)
        return Lineage(
            fit=decided, ledger=first_ledger_rows(fit, as_of=as_of), moves=None, names=dict(overrides.rename)
        )
    old = model_from_arrays(*previous.load_model())
    ledger = previous.table("ledger")
    before = previous.table("assignments").set_index("customer_id")["segment"]
    used = highest_id(ledger)
    refit, standing, events = match_segments(fit, now=now, old=old, used=used, as_of=as_of, previous_segment=before)
    decided = apply_overrides(refit, overrides, standing=standing)
    after = pd.Series(np.array(decided.model.segments, dtype=object)[decided.segment_number], index=now.features.index)
    names = previous.table("segments").set_index("segment")["name"].to_dict()
    return Lineage(
        fit=decided,
        ledger=pd.concat([ledger, events], ignore_index=True),
        moves=customer_moves(before, standing, after),
        names={**names, **overrides.rename},
    )


def match_segments(
    fit: Fit, *, now: CustomerData, old: SegmentModel, used: int, as_of: str, previous_segment: pd.Series | None = None
) -> tuple[Fit, pd.Series, pd.DataFrame]:
    """Give the segments of a refit the ids of the old segments that they carry on.

    Takes  fit: new, with any ids; now: signals of the same customers, in the same order; old: the previous run's model
    Gives  the fit with lasting ids; today's segment of each customer under the old model; the ledger's new rows: one
           for each new segment, and for each old one that did not last

    Parameters
    ----------
    used : highest number of an id ever given; a segment that is born gets a higher one
    as_of : date of the refit, for the ledger
    home : segment of each customer in the previous run, which they keep at a border of the old model

    Raises
    ------
    RunError : the old model was made of features that these customers do not have
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
    """Where the old model puts today's customers, by customer_id."""
    return assign_under_model(old, now, previous_segment=previous_segment)["segment"]


def assign_under_model(
    old: SegmentModel, now: CustomerData, *, previous_segment: pd.Series | None = None
) -> pd.DataFrame:
    """The same with macro bucket and confidence.

    Parameters
    ----------
    home : segment of each customer in the run before, which they keep at a border

    Raises
    ------
    RunError : the old model was made of features that these customers do not have
    """
    return assign_segments(old, align_to_model(old, now), previous_segment=previous_segment)


def align_to_model(old: SegmentModel, now: CustomerData) -> CustomerData:
    """Today's signals with all that the old model reads; a channel that is no longer used has no share.

    Raises
    ------
    RunError : the old model was made of features that these customers do not have
    """
    missing = sorted(set(old.space.features) - set(now.features.columns))
    unknown = [name for name in missing if block_of(name) != "channel"]  # one that is no longer used has no share
    if unknown:
        raise RunError(
            f"previous run: its model needs {unknown[:5]} ({len(unknown)} features), which this source does not carry. "
            f"Give a run of the same source with --previous, or --previous none."
        )
    filled = now.features.assign(**dict.fromkeys(missing, 0.0))
    return replace(now, features=filled)


def customer_moves(before: pd.Series, standing: pd.Series, after: pd.Series) -> pd.DataFrame:
    """Each customer's move, put down to the customer or to the definition.

    Takes  before: segment at the previous run, by customer_id; standing: today under the old model; after: today
    Gives  customer_id, before (missing: not there then), standing, after (missing: not there now), cause: stayed,
           customer (they changed under the old model), definition (it changed around them), both, joined or left
    """
    index = before.index.union(after.index)
    columns = zip(MOVE_COLUMNS[1:4], (before, standing, after), strict=True)
    table = pd.DataFrame({name: segment.reindex(index) for name, segment in columns})
    changed = table["before"] != table["standing"]
    redefined = table["standing"] != table["after"]
    cause = np.select(
        [table["before"].isna(), table["after"].isna(), changed & redefined, changed, redefined],
        ["joined", "left", "both", "customer", "definition"],
        default="stayed",
    )
    return table.assign(cause=cause).rename_axis("customer_id").reset_index()[MOVE_COLUMNS]


def first_ledger_rows(fit: Fit, *, as_of: str) -> pd.DataFrame:
    """The ledger of a first run: every segment is born."""
    sizes = pd.Series(fit.segment_number).value_counts()
    rows = [(as_of, s, "born", "", np.nan, 0, int(sizes.get(i, 0))) for i, s in enumerate(fit.model.segments)]
    return pd.DataFrame(rows, columns=LEDGER_COLUMNS)


def highest_id(ledger: pd.DataFrame) -> int:
    """The highest number of an id in a ledger."""
    return max((int(s[1:]) for s in ledger["segment"]), default=0)


def inherit_names(names: Mapping[str, str], old: Mapping[str, str]) -> dict[str, str]:
    """Names by segment: old ones stay; a new segment whose name is taken gets its id beside it."""
    names_by_segment = {segment: old.get(segment, name) for segment, name in names.items()}
    taken = {names_by_segment[segment] for segment in names_by_segment if segment in old}
    return {s: f"{n} {s}" if s not in old and n in taken else n for s, n in names_by_segment.items()}


def inherit_ids(shared: pd.DataFrame, *, count: int, used: int) -> tuple[list[str], dict[int, str]]:
    """Ids for the new segments: the best one-to-one match by Jaccard overlap, else a fresh number."""
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
    """A row for each new segment (same, split, born) and for each old one that did not last (merged, died)."""
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


def _overlap(table: pd.DataFrame, old: str, new: int) -> float:
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
MAP_NEIGHBOURS = 3  # of the last run, between whom a customer stands on the map


@dataclass(frozen=True)
class Reassignment:
    """`model`; `expected` of everyone; `placed` (segment, macro_segment, confidence), `core` and `coords` (x, y) by
    customer_id; the whole `ledger`, `moves` since the last run; `names` that stay, by segment; `found`: ISO date on
    which the segments were found.
    """

    model: SegmentModel
    expected: Anticipation
    assigned: pd.DataFrame
    core: pd.Series
    coords: pd.DataFrame
    ledger: pd.DataFrame
    moves: pd.DataFrame
    names: dict[str, str]
    fitted_as_of: str


def load_standing_run(path: str, *, of: Run) -> Run:
    """The run whose segments stand.

    Raises
    ------
    RunError : none is named, or it is not a run, of another source, or does not hold what is needed
    """
    found = previous_run(path, of=of)
    if found is None:
        raise RunError("previous: no run is named. Give the one whose segments stand; `segkit run --auto` finds it.")
    missing = [name for name in needed_of_last_run(STANDING_SEGMENTS) if not found.has(name)]
    if missing:
        raise RunError(
            f"previous run: {found.path.name} holds no {', '.join(missing)}, so its segments cannot stand. "
            f"Give a run of all steps, or run without --auto."
        )
    return found


def assign_with_previous_model(previous: Run, now: CustomerData, *, overrides: Overrides, as_of: str) -> Reassignment:
    """Place everyone under the model of the last run.

    Takes  previous: a finished run with all that is needed of it; now: signals of today
    Gives  Carried

    Raises
    ------
    RunError : the model was made of features that these customers do not have
    InputError : a decision is about a segment that is not there
    """
    if now.features.empty:
        raise InputError(f"as_of {as_of}: nobody did anything in the lookback. Check the source, or give another date.")
    ledger = previous.table("ledger")
    model = apply_merges(model_from_arrays(*previous.load_model()), overrides, segment_ids=set(ledger["segment"]))
    expected = anticipate(model.space, align_to_model(model, now))
    before = previous.table("assignments").set_index("customer_id")["segment"]
    before = before.replace(overrides.merge)
    placed = assign_points(model, expected.axes, previous_segment=before)
    coords, core = _previous_map_positions(previous, expected.axes)
    sizes = placed["segment"].value_counts()
    rows = [(as_of, s, "same", s, 1.0, int(sizes.get(s, 0)), int(sizes.get(s, 0))) for s in sorted(set(model.segments))]
    entries = pd.DataFrame(rows, columns=LEDGER_COLUMNS)
    names = previous.table("segments").set_index("segment")["name"].to_dict()
    return Reassignment(
        model=model,
        expected=expected,
        assigned=placed,
        core=core,
        coords=coords,
        ledger=pd.concat([ledger, entries], ignore_index=True),
        moves=customer_moves(before, placed["segment"], placed["segment"]),
        names={**names, **overrides.rename},
        fitted_as_of=fitted_as_of(previous),
    )


def fitted_as_of(run: Run) -> str:
    """When the segments of a run were found: at its own date, or earlier where they were carried on."""
    return str(run.load_model()[1].get("fitted_as_of") or run.parameters()["as_of"])


def apply_merges(model: SegmentModel, overrides: Overrides, *, segment_ids: set[str]) -> SegmentModel:
    """The model with what a person has merged since; what is pinned stays by itself, as all does.

    Takes  model; overrides; known: every id there ever was

    Raises
    ------
    InputError : a decision is about an id that is not there
    """
    asked = {*overrides.rename, *overrides.merge, *overrides.merge.values(), *overrides.pin} - segment_ids
    if asked:
        listed = ", ".join(sorted(set(model.segments)))
        raise InputError(f"overrides: {sorted(asked)} are no segments; there are {listed}. Mend overrides.yaml.")
    return replace(model, segments=tuple(overrides.merge.get(s, s) for s in model.segments))


def add_previous_proof(segments: pd.DataFrame, previous: Run) -> pd.DataFrame:
    """The segment table with stability and verdict as they were measured when the segments were found."""
    previous_proof = previous.table("segments").set_index("segment")[list(PROOF_COLUMNS)]
    aligned = previous_proof.reindex(segments["segment"]).reset_index(drop=True)
    return segments.assign(**{name: aligned[name].set_axis(segments.index) for name in PROOF_COLUMNS})


def previous_proof_metrics(previous: Run, *, fitted_as_of: str) -> dict[str, object]:
    """The headline numbers of the proof, as they were measured when the segments were found, and that date."""
    metrics = {name: value for name, value in previous.summary().items() if name.startswith(PROOF_METRIC_PREFIXES)}
    return {**metrics, "segments.found_as_of": fitted_as_of}


def reassigned_model_arrays(
    reassignment: Reassignment, previous: Run
) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """The model as a run keeps it, with what stood beside it, and when it was found."""
    arrays, plain = model_to_arrays(reassignment.model)
    return arrays, {**previous.load_model()[1], **plain, "fitted_as_of": reassignment.fitted_as_of}


def _previous_map_positions(previous: Run, axes: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
    """A place on the map, and whether in the core, from those who stood nearest at the last run."""
    before = previous.table("anticipation").set_index("customer_id")[list(axes.columns)]
    seen = previous.table("assignments").set_index("customer_id").loc[before.index]
    away, who = KDTree(before.to_numpy()).query(axes.to_numpy(), k=min(MAP_NEIGHBOURS, len(before)))
    away, who = away.reshape(len(axes), -1), who.reshape(len(axes), -1)
    weights = 1.0 / np.maximum(away, 1e-9) ** 2
    weights /= weights.sum(axis=1, keepdims=True)
    positions = seen[["x", "y"]].to_numpy()
    coords = (positions[who] * weights[:, :, None]).sum(axis=1).round(9)
    core = pd.Series(seen["core"].to_numpy()[who[:, 0]], index=axes.index)
    return pd.DataFrame(coords, index=axes.index, columns=["x", "y"]), core


def align_fit_data(data: FitData, model: SegmentModel) -> FitData:
    """The windows with all that the model reads, so that it places customers of then too."""
    then = None if data.then is None else align_to_model(model, data.then)
    return FitData(now=align_to_model(model, data.now), then=then, outcomes=data.outcomes)


@dataclass(frozen=True)
class Recut:
    """`segments`: segment, macro_segment, customers, customer_share; `assignments`: segment by customer_id, and
    `before`, that of the run; `frontier`: what the cut was chosen from.
    """

    segments: pd.DataFrame
    assignments: pd.DataFrame
    frontier: pd.DataFrame


def recut(run: Run, *, segments_min: int = 12, segments_max: int = 20, smallest_share: float = 0.01) -> Recut:
    """Cut a run's customers anew, within another budget.

    Takes  a run that holds 02_embed and 03_segments
    Gives  Recut; a segment that carries on one of the run has its id, others get numbers never used

    Parameters
    ----------
    segments_min, segments_max : fewest and most segments
    smallest_share : of customers in the smallest segment

    Raises
    ------
    RunError : the run does not hold what is needed
    BudgetError : no cut within the budget; says which limit binds
    """
    model = model_from_arrays(*run.load_model())
    axes = run.table("anticipation").set_index("customer_id").filter(regex=r"^axis_\d+$")
    points = axes.to_numpy()
    bags, seen = _load_subsamples(run, model, axes.index)
    last = read_training_windows(run).last
    learning = None if last is None else anticipate(model.space, _fill_features(last.customers, model)).axes.to_numpy()
    budget = Budget(min_segments=segments_min, max_segments=segments_max, smallest_share=smallest_share)
    outcomes = last.outcomes if last else None
    cut, frontier = search(points, bags, in_sample=seen, training_points=learning, outcomes=outcomes, budget=budget)
    number = nearest_centre(points, cut.centres)
    before = run.table("assignments").set_index("customer_id")["segment"].reindex(axes.index)
    used = highest_id(run.table("ledger"))
    ids, _ = inherit_ids(pd.crosstab(before.to_numpy(), number), count=len(cut.centres), used=used)
    named = np.array(ids, dtype=object)[number]
    assignments = pd.DataFrame({"before": before, "segment": named}, index=axes.index)
    return Recut(_segment_sizes(ids, number, macro_groups(cut.centres)), assignments, frontier)


def subsample_table(subsamples: Subsamples, customers: pd.Index) -> pd.DataFrame:
    """The cluster of each customer in each bag, as a run keeps it: -1 noise, -2 not in the bag."""
    names = [f"subsample_{i + 1:02d}" for i in range(subsamples.count)]
    return pd.DataFrame(subsamples.labels.astype("int16"), index=customers.rename("customer_id"), columns=names)


def _load_subsamples(run: Run, model: SegmentModel, customers: pd.Index) -> tuple[Subsamples, np.ndarray]:
    """The bags of a run, and which of its customers were in them."""
    table = run.table("subsamples").set_index("customer_id")
    seen = customers.isin(table.index)
    labels = table.reindex(customers[seen]).to_numpy(dtype=np.int32)
    counts = zip(labels.T, _clusters_per_subsample(model, labels), strict=True)
    sizes = [np.bincount(column[column >= 0], minlength=n) for column, n in counts]
    return Subsamples(model.bag_centres, np.concatenate(sizes).astype(float), model.bag_of, labels), seen


def _clusters_per_subsample(model: SegmentModel, labels: np.ndarray) -> list[int]:
    """How many clusters each bag holds."""
    counts = [int((model.bag_of == bag).sum()) for bag in range(labels.shape[1])]
    if any(column.max() >= n for column, n in zip(labels.T, counts, strict=True)):
        raise RunError("bags: the table is not of the model beside it. Run 03_segments on this run folder again.")
    return counts


def _fill_features(customers: CustomerData, model: SegmentModel) -> CustomerData:
    """What was known one horizon ago, with zeros for features that there were none of then."""
    wanted = customers.features.reindex(columns=list(model.space.features), fill_value=0.0)
    return CustomerData(features=wanted, weights=customers.weights, categories=customers.categories)


def _segment_sizes(ids: list[str], number: np.ndarray, macro: np.ndarray) -> pd.DataFrame:
    customers = np.bincount(number, minlength=len(ids))
    table = pd.DataFrame({"segment": ids, "macro_segment": [f"M{m + 1}" for m in macro], "customers": customers})
    return table.assign(customer_share=customers / len(number)).sort_values("segment", ignore_index=True)
