"""Count how customers moved between two runs: by segment, and what changed for them in level and need."""

from collections.abc import Mapping

import pandas as pd

from segkit.data.runs import Run
from segkit.personas.naming import lower_first

FLOW = ["before", "standing", "after", "cause", "customers"]
CHANGES = ("up", "down", "need", "turned to", "no longer for")
CHANGES_COLUMNS = ["change", "source", "into", "words", "customers"]


def count_flow(moves: pd.DataFrame) -> pd.DataFrame:
    """Count customers by previous segment, segment under the previous model, and new segment.

    `moves`: as returned by `moves.customer_moves`. Returns ``before, standing, after`` (missing: not a customer
    then), ``cause, customers``; largest first.
    """
    groups = moves.groupby(FLOW[:4], dropna=False).size().rename("customers").reset_index()
    return groups.sort_values(["customers", *FLOW[:3]], ascending=[False, True, True, True], ignore_index=True)[FLOW]


def count_changes(moves: pd.DataFrame, *, levels: Mapping[str, str], needs: Mapping[str, str]) -> pd.DataFrame:
    """Count the customers whose level or need changed under the previous model.

    Parameters
    ----------
    moves
        As returned by `moves.customer_moves`.
    levels, needs
        Name of each level by macro segment, and of each need by id; an id without a name stands for itself.

    Returns
    -------
    DataFrame
        ``change`` (up, down, need: all whose need changed, turned to, no longer for), ``source, into`` (ids), ``words``
        (what customers did) and ``customers``; in that order of changes, largest first.
    """
    rows = []
    for way in ("up", "down"):
        pairs = moves[moves["level_change"] == way].groupby(["level_from", "level_to"]).size()
        for (source, into), customers in pairs.items():
            words = f"moved {way} from {levels.get(source, source)} to {levels.get(into, into)}"
            rows.append((way, source, into, words, customers))
    whole = int(moves[["need_from", "need_to"]].notna().any(axis=1).sum())
    rows += [("need", None, None, "changed what they mainly come for", whole)] if whole else []
    for need, customers in moves["need_to"].value_counts().items():
        rows.append(("turned to", None, need, f"turned to {lower_first(needs.get(need, need))}", customers))
    for need, customers in moves["need_from"].value_counts().items():
        words = f"no longer come mainly for {lower_first(needs.get(need, need))}"
        rows.append(("no longer for", need, None, words, customers))
    table = pd.DataFrame(rows, columns=CHANGES_COLUMNS).astype({"customers": "int64"})
    order = table["change"].map({way: i for i, way in enumerate(CHANGES)})
    table = table.assign(order=order).sort_values(["order", "customers", "words"], ascending=[True, False, True])
    return table[CHANGES_COLUMNS].reset_index(drop=True)


def level_labels(run: Run) -> dict[str, str]:
    """Return the name of each level by macro segment; two of one name have their ids appended."""
    segments = run.table("segments")
    if "level" not in segments:
        return {}
    names = segments.drop_duplicates("macro_segment").set_index("macro_segment")["level"].dropna()
    double = names.duplicated(keep=False)
    return {macro: f"{name} ({macro})" if double[macro] else name for macro, name in names.items()}


def need_labels(run: Run, previous: Run) -> dict[str, str]:
    """Return the name of each need of two runs by id; today's where both have one."""
    names: dict[str, str] = {}
    for each in (previous, run):
        if each.has("needs"):
            names |= each.table("needs").set_index("need")["name"].to_dict()
    return names
