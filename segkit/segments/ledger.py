"""The ledger: a segment keeps its id and name across refits; what was born, split, merged or died is written down.

Today's customers are placed under the old model first (the standing segments). Old and new segments are then matched by
whom they share today, so that a match speaks of the definition alone. A customer's move has two parts: from where they
were to where the old model puts them today (they changed), and from there to the new segment (the definition did).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from segkit.customers.features import Signals
from segkit.data.store import Run, load_run
from segkit.errors import RunError
from segkit.segments.fit import Fit
from segkit.segments.overrides import Overrides, apply_overrides
from segkit.segments.place import SegmentModel, model_from, place
from segkit.vocabulary import block_of

SAME_FROM = 0.3  # Jaccard overlap, today, from which a new segment carries on an old one
MOST_OF = 0.5  # share of an old (new) segment that has to come together for a merge (split)
LEDGER = ["as_of", "segment", "event", "other", "overlap", "customers_before", "customers_after"]
MOVES = ["customer_id", "before", "standing", "after", "cause"]


@dataclass(frozen=True)
class Lasting:
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


def lasting(fit: Fit, *, now: Signals, previous: Run | None, overrides: Overrides, as_of: str) -> Lasting:
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
        return Lasting(fit=decided, ledger=first_entries(fit, as_of=as_of), moves=None, names=dict(overrides.rename))
    old = model_from(*previous.load_model())
    ledger = previous.table("ledger")
    before = previous.table("assignments").set_index("customer_id")["segment"]
    used = highest_id(ledger)
    refit, standing, events = carry_over(fit, now=now, old=old, used=used, as_of=as_of, previous_segment=before)
    decided = apply_overrides(refit, overrides, standing=standing)
    after = pd.Series(np.array(decided.model.segments, dtype=object)[decided.segment_number], index=now.features.index)
    names = previous.table("segments").set_index("segment")["name"].to_dict()
    return Lasting(
        fit=decided,
        ledger=pd.concat([ledger, events], ignore_index=True),
        moves=customer_moves(before, standing, after),
        names={**names, **overrides.rename},
    )


def carry_over(
    fit: Fit, *, now: Signals, old: SegmentModel, used: int, as_of: str, previous_segment: pd.Series | None = None
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
    standing = standing_segments(old, now, previous_segment=previous_segment)
    shared = pd.crosstab(standing.to_numpy(), fit.segment_number)
    ids, matched = lasting_ids(shared, count=len(fit.model.segments), used=used)
    model = replace(fit.model, segments=tuple(ids))
    events = _events(shared, ids=ids, matched=matched, as_of=as_of)
    return replace(fit, model=model), standing, events


def standing_segments(old: SegmentModel, now: Signals, *, previous_segment: pd.Series | None = None) -> pd.Series:
    """Where the old model puts today's customers, by customer_id."""
    return standing_places(old, now, previous_segment=previous_segment)["segment"]


def standing_places(old: SegmentModel, now: Signals, *, previous_segment: pd.Series | None = None) -> pd.DataFrame:
    """The same with macro bucket and confidence.

    Parameters
    ----------
    home : segment of each customer in the run before, which they keep at a border

    Raises
    ------
    RunError : the old model was made of features that these customers do not have
    """
    return place(old, known_to(old, now), previous_segment=previous_segment)


def known_to(old: SegmentModel, now: Signals) -> Signals:
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
    columns = zip(MOVES[1:4], (before, standing, after), strict=True)
    table = pd.DataFrame({name: segment.reindex(index) for name, segment in columns})
    changed = table["before"] != table["standing"]
    redefined = table["standing"] != table["after"]
    cause = np.select(
        [table["before"].isna(), table["after"].isna(), changed & redefined, changed, redefined],
        ["joined", "left", "both", "customer", "definition"],
        default="stayed",
    )
    return table.assign(cause=cause).rename_axis("customer_id").reset_index()[MOVES]


def first_entries(fit: Fit, *, as_of: str) -> pd.DataFrame:
    """The ledger of a first run: every segment is born."""
    sizes = pd.Series(fit.segment_number).value_counts()
    rows = [(as_of, s, "born", "", np.nan, 0, int(sizes.get(i, 0))) for i, s in enumerate(fit.model.segments)]
    return pd.DataFrame(rows, columns=LEDGER)


def highest_id(ledger: pd.DataFrame) -> int:
    """The highest number of an id in a ledger."""
    return max((int(s[1:]) for s in ledger["segment"]), default=0)


def lasting_names(names: Mapping[str, str], old: Mapping[str, str]) -> dict[str, str]:
    """Names by segment: old ones stay; a new segment whose name is taken gets its id beside it."""
    names_by_segment = {segment: old.get(segment, name) for segment, name in names.items()}
    taken = {names_by_segment[segment] for segment in names_by_segment if segment in old}
    return {s: f"{n} {s}" if s not in old and n in taken else n for s, n in names_by_segment.items()}


def lasting_ids(shared: pd.DataFrame, *, count: int, used: int) -> tuple[list[str], dict[int, str]]:
    """Ids for the new segments: the best one-to-one match by Jaccard overlap, else a fresh number."""
    table = shared.reindex(columns=range(count), fill_value=0).to_numpy()
    overlap = table / (table.sum(axis=1)[:, None] + table.sum(axis=0)[None, :] - table)
    matched = {
        int(new): str(shared.index[old])
        for old, new in zip(*linear_sum_assignment(-overlap), strict=True)
        if overlap[old, new] >= SAME_FROM
    }
    fresh = iter(range(used + 1, used + count + 1))
    return [matched[new] if new in matched else f"S{next(fresh):02d}" for new in range(count)], matched


def _events(shared: pd.DataFrame, *, ids: list[str], matched: dict[int, str], as_of: str) -> pd.DataFrame:
    """A row for each new segment (same, split, born) and for each old one that did not last (merged, died)."""
    table = shared.reindex(columns=range(len(ids)), fill_value=0)
    before, after = table.sum(axis=1), table.sum(axis=0)
    rows = []
    for new, segment in enumerate(ids):
        source = table[new].idxmax()
        part = table.loc[source, new] / max(after[new], 1)
        event = "same" if new in matched else "split" if part >= MOST_OF else "born"
        other = segment if event == "same" else source if event == "split" else ""
        before_count = before[other] if other else 0
        overlap = _overlap(table, other, new) if other else np.nan
        rows.append((as_of, segment, event, other, overlap, int(before_count), int(after[new])))
    for old in table.index:
        if old not in matched.values():
            into = int(table.loc[old].idxmax())
            merged = table.loc[old, into] / max(before[old], 1) >= MOST_OF
            overlap = _overlap(table, old, into)
            event, other = ("merged", ids[into]) if merged else ("died", "")
            rows.append((as_of, old, event, other, overlap, int(before[old]), 0))
    return pd.DataFrame(rows, columns=LEDGER)


def _overlap(table: pd.DataFrame, old: str, new: int) -> float:
    both = table.loc[old, new]
    return float(both / (table.loc[old].sum() + table[new].sum() - both))
