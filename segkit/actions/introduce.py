"""Introduce the segments: the whole segment table, with names, needs and next actions."""

import pandas as pd

from segkit.actions.facts import Fact
from segkit.actions.personas import looks_of, name_segments, next_action, segment_facts
from segkit.segments.stability import Stability
from segkit.segments.structure import Structure, segment_verdict


def introduce(
    sizes: pd.DataFrame,
    *,
    expected: pd.DataFrame,
    stability: Stability | None,
    structure: Structure | None = None,
    features: pd.DataFrame,
    segment: pd.Series,
    needs: pd.DataFrame,
    horizon_days: int,
) -> tuple[pd.DataFrame, list[Fact], pd.Series]:
    """Put the segment table together.

    Takes  sizes, expected: of `segments.describe`; stability: of `segments.validate`, in the order of the segments,
           or None;
           features and segment by customer_id; needs of `signals.segment_needs`
    Gives  the table segments, the facts of all segments, and how each comes (its look)
    """
    table = sizes.merge(expected.reset_index(), on="segment", how="left", validate="one_to_one")
    columns = ["stability", "stability_low", "stability_high"]
    table[columns] = stability.segments[columns].to_numpy() if stability is not None else float("nan")
    table["verdict"] = [segment_verdict(j, reference=structure, stability=stability) for j in table["stability"]]
    looks = looks_of(table, features=features, segment=segment)
    table = table.merge(name_segments(looks, needs).reset_index(), on="segment", validate="one_to_one")
    facts = segment_facts(table, features=features, segment=segment, needs=needs, horizon_days=horizon_days)
    table["action"] = [next_action(looks[s], facts=facts, segment=s) for s in table["segment"]]
    return table, facts, looks
