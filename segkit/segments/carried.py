"""Carried on: a run under the model of the one before. Everyone is placed anew, and nothing is learnt.

Ids, names, borders and their proof stay as they were when the segments were found; the proof is named by that date. A
place on the map is that of the customers who stood nearest in the space at the last run.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.spatial import KDTree

from segkit.customers.anticipate import Anticipation, anticipate
from segkit.customers.features import Signals
from segkit.data.store import Run
from segkit.errors import InputError, RunError
from segkit.segments.fit import Windows
from segkit.segments.ledger import LEDGER, customer_moves, known_to, previous_run
from segkit.segments.overrides import Overrides
from segkit.segments.place import SegmentModel, model_arrays, model_from, place_points
from segkit.tables import KEEPS, needed_of_last_run

PROOF = ("stability", "stability_low", "stability_high", "verdict")  # columns of the table segments
PROVED = ("forward.", "stability.", "structure.", "blocks.", "predictability.", "segments.noise", "segments.hdbscan")
NEIGHBOURS = 3  # of the last run, between whom a customer stands on the map


@dataclass(frozen=True)
class Carried:
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


def standing_run(path: str, *, of: Run) -> Run:
    """The run whose segments stand.

    Raises
    ------
    RunError : none is named, or it is not a run, of another source, or does not hold what is needed
    """
    found = previous_run(path, of=of)
    if found is None:
        raise RunError("previous: no run is named. Give the one whose segments stand; `segkit run --auto` finds it.")
    missing = [name for name in needed_of_last_run(KEEPS) if not found.has(name)]
    if missing:
        raise RunError(
            f"previous run: {found.path.name} holds no {', '.join(missing)}, so its segments cannot stand. "
            f"Give a run of all steps, or run without --auto."
        )
    return found


def carry_on(previous: Run, now: Signals, *, overrides: Overrides, as_of: str) -> Carried:
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
    model = decided(model_from(*previous.load_model()), overrides, segment_ids=set(ledger["segment"]))
    expected = anticipate(model.space, known_to(model, now))
    before = previous.table("assignments").set_index("customer_id")["segment"]
    before = before.replace(overrides.merge)
    placed = place_points(model, expected.axes, previous_segment=before)
    coords, core = _where_they_stood(previous, expected.axes)
    sizes = placed["segment"].value_counts()
    rows = [(as_of, s, "same", s, 1.0, int(sizes.get(s, 0)), int(sizes.get(s, 0))) for s in sorted(set(model.segments))]
    entries = pd.DataFrame(rows, columns=LEDGER)
    names = previous.table("segments").set_index("segment")["name"].to_dict()
    return Carried(
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


def decided(model: SegmentModel, overrides: Overrides, *, segment_ids: set[str]) -> SegmentModel:
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


def with_proof(segments: pd.DataFrame, previous: Run) -> pd.DataFrame:
    """The segment table with stability and verdict as they were measured when the segments were found."""
    previous_proof = previous.table("segments").set_index("segment")[list(PROOF)]
    aligned = previous_proof.reindex(segments["segment"]).reset_index(drop=True)
    return segments.assign(**{name: aligned[name].set_axis(segments.index) for name in PROOF})


def proved(previous: Run, *, fitted_as_of: str) -> dict[str, object]:
    """The headline numbers of the proof, as they were measured when the segments were found, and that date."""
    metrics = {name: value for name, value in previous.summary().items() if name.startswith(PROVED)}
    return {**metrics, "segments.found_as_of": fitted_as_of}


def model_kept(reassignment: Carried, previous: Run) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """The model as a run keeps it, with what stood beside it, and when it was found."""
    arrays, plain = model_arrays(reassignment.model)
    return arrays, {**previous.load_model()[1], **plain, "fitted_as_of": reassignment.fitted_as_of}


def _where_they_stood(previous: Run, axes: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
    """A place on the map, and whether in the core, from those who stood nearest at the last run."""
    before = previous.table("anticipation").set_index("customer_id")[list(axes.columns)]
    seen = previous.table("assignments").set_index("customer_id").loc[before.index]
    away, who = KDTree(before.to_numpy()).query(axes.to_numpy(), k=min(NEIGHBOURS, len(before)))
    away, who = away.reshape(len(axes), -1), who.reshape(len(axes), -1)
    weights = 1.0 / np.maximum(away, 1e-9) ** 2
    weights /= weights.sum(axis=1, keepdims=True)
    positions = seen[["x", "y"]].to_numpy()
    coords = (positions[who] * weights[:, :, None]).sum(axis=1).round(9)
    core = pd.Series(seen["core"].to_numpy()[who[:, 0]], index=axes.index)
    return pd.DataFrame(coords, index=axes.index, columns=["x", "y"]), core


def known_then(data: Windows, model: SegmentModel) -> Windows:
    """The windows with all that the model reads, so that it places customers of then too."""
    then = None if data.then is None else known_to(model, data.then)
    return Windows(now=known_to(model, data.now), then=then, outcomes=data.outcomes)
