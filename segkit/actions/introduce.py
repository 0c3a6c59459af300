"""Introduce the segments: the whole segment table, with names, needs and next actions."""

from collections.abc import Mapping, Sequence

import pandas as pd

from segkit.actions.figures import Told, segment_facts
from segkit.actions.names import looks_of, name_segments
from segkit.actions.personas import next_action
from segkit.segments.ledger import lasting_names
from segkit.segments.stability import Stability
from segkit.segments.structure import Structure, segment_verdict


def introduce(
    sizes: pd.DataFrame,
    *,
    expected: pd.DataFrame,
    stability: Stability | None,
    structure: Structure | None = None,
    ids: Sequence[str] = (),
    names: Mapping[str, str] | None = None,
    features: pd.DataFrame,
    segment: pd.Series,
    needs: pd.DataFrame,
    signals: pd.DataFrame | None = None,
    horizon_days: int,
    labels: Mapping[str, str] | None = None,
    people: str = "buyers",
) -> pd.DataFrame:
    """Put the segment table together.

    Takes  sizes, expected: of `segments.describe`; stability, structure: of the refits, or None; features and segment
           by customer_id; needs of `signals.segment_needs`
    Gives  the table segments, with names, needs, verdicts and next actions

    Parameters
    ----------
    ids : segment of each centre that the refits were compared on, in their order
    signals : of `signals.segment_signals`: habits that name a segment of which no need is known
    names : names that stay, by segment: of earlier runs, or decided by a person
    labels : categories in plain words, of the source
    people : what those are called who are in a segment
    """
    table = sizes.merge(expected.reset_index(), on="segment", how="left", validate="one_to_one")
    table = table.merge(_held(stability, ids=ids), on="segment", how="left", validate="one_to_one")
    table["verdict"] = [segment_verdict(j, reference=structure, stability=stability) for j in table["stability"]]
    activity_levels = looks_of(table, features=features, segment=segment)
    named = name_segments(activity_levels, needs, habits=signals, labels=labels, people=people)
    named["name"] = named.index.map(lasting_names(named["name"].to_dict(), names or {}))
    table = table.merge(named.reset_index(), on="segment", validate="one_to_one")
    tables = Told(needs=needs)
    facts = segment_facts(
        table, features=features, segment=segment, tables=tables, horizon_days=horizon_days, labels=labels
    )
    table["action"] = [next_action(activity_levels[s], facts=facts, segment=s) for s in table["segment"]]
    return table


def _held(stability: Stability | None, *, ids: Sequence[str]) -> pd.DataFrame:
    """Stability by segment; segments that a person merged share the mean of their parts."""
    columns = ["stability", "stability_low", "stability_high"]
    if stability is None:
        return pd.DataFrame(columns=["segment", *columns]).astype(dict.fromkeys(columns, float))
    return stability.segments[columns].groupby(list(ids)).mean().rename_axis("segment").reset_index()
