"""Describe how customers moved between two runs: for which reason, from which level and need to which."""

import numpy as np
import pandas as pd

from segkit.format import count, is_few, masked_count, suppressed_cells
from segkit.segments.model import SegmentModel

CHANGE_COLUMNS = ["level_change", "level_from", "level_to", "need_from", "need_to"]
MOVE_COLUMNS = ["customer_id", "before", "standing", "after", "cause", *CHANGE_COLUMNS]


CAUSES = ("stayed", "customer", "definition", "both", "joined", "left")
HIDDEN = "hidden"


def moves_by_cause(moves: pd.DataFrame) -> pd.DataFrame:
    """Count customers by the cause of their move, and hide what must not follow from the sizes of the two runs.

    How many customers each run has is known: those who are in both and the new ones are all of today's, those who are
    in both and the lost ones all of then's.

    Parameters
    ----------
    moves
        As from `customer_moves`.

    Returns
    -------
    pandas.DataFrame
        By cause: customers, hidden, and shown (text).
    """
    sizes = moves["cause"].value_counts().reindex(list(CAUSES), fill_value=0).to_numpy()
    hides = suppressed_cells(sizes)
    for _ in range(2):
        hides[4:] = hides[4:].any()  # their difference is known
        for end in (4, 5):
            cells = [0, 1, 2, 3, end]
            hides[cells] = suppressed_cells(sizes[cells], also=hides[cells])
    texts = [
        count(size) if not hide else masked_count(size) if is_few(size) and number < 4 else HIDDEN
        for number, (size, hide) in enumerate(zip(sizes, hides, strict=True))
    ]  # with the difference of new and lost, which is known, "<20" of one could be its size
    return pd.DataFrame({"customers": sizes, "hidden": hides, "shown": texts}, index=list(CAUSES))


def customers_of_both(moves: pd.DataFrame) -> str:
    """Format how many customers are in both runs; empty where that could give away how many are new, or lost."""
    by_cause = moves_by_cause(moves)
    return "" if by_cause["hidden"].any() else count(int(by_cause["customers"].iloc[:4].sum()))


def segment_places(model: SegmentModel) -> pd.DataFrame:
    """Return level (0 the lowest), macro_segment and need (empty for none) by segment."""
    columns = {"segment": model.segments, "level": model.level, "macro_segment": model.macro, "need": model.need}
    return pd.DataFrame(columns).drop_duplicates("segment").set_index("segment")


def customer_moves(
    before: pd.Series, standing: pd.Series, after: pd.Series, *, places: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Attribute each customer's move to the customer or to the definition, and say what changed for them.

    Parameters
    ----------
    before
        Segment in the previous run, by customer_id.
    standing
        Segment today under the old model.
    after
        Segment today.
    places
        Level and need of the old model's segments, as returned by `segment_places`; None where unknown.

    Returns
    -------
    pandas.DataFrame
        customer_id, before (missing if new), standing, after (missing if gone), and cause: stayed, customer (they
        changed under the old model), definition (it changed around them), both, joined or left. Of who changed under
        the old model: level_change (up or down) with level_from and level_to (macro segments), the need they no longer
        come for (need_from) and the one they turned to (need_to), all missing where it did not change. A need that the
        other level does not tell apart is no change.
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
    table = table.assign(cause=cause).join(_changes(table["before"], table["standing"], places=places))
    return table.rename_axis("customer_id").reset_index()[MOVE_COLUMNS]


def _changes(before: pd.Series, standing: pd.Series, *, places: pd.DataFrame | None) -> pd.DataFrame:
    """Return what changed in level and need between two segments of the same model, by customer."""
    found = pd.DataFrame(None, index=before.index, columns=CHANGE_COLUMNS, dtype=object)
    if places is None:
        return found
    moved = before.isin(places.index) & standing.isin(places.index) & (before != standing)
    then, now = (places.loc[of[moved]].set_axis(before.index[moved]) for of in (before, standing))
    up, down = now["level"] > then["level"], now["level"] < then["level"]
    split = set(zip(places["level"], places["need"], strict=True))  # needs that a level tells apart
    left, turned = (
        [need != "" and need != other and (level, need) in split for need, other, level in zip(*of, strict=True)]
        for of in ((then["need"], now["need"], now["level"]), (now["need"], then["need"], then["level"]))
    )
    found.loc[moved, "level_change"] = np.select([up, down], ["up", "down"], default=None)
    found.loc[moved, "level_from"] = then["macro_segment"].where(up | down, None)
    found.loc[moved, "level_to"] = now["macro_segment"].where(up | down, None)
    found.loc[moved, "need_from"] = then["need"].where(left, None)
    found.loc[moved, "need_to"] = now["need"].where(turned, None)
    return found
