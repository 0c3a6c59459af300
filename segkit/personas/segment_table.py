"""Assemble the segment table: sizes, stability, names and needs; the forecast and the action are filled in later."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from segkit.personas.naming import earlier_names, level_names, member_stages, name_segments
from segkit.segments.lineage import inherit_names
from segkit.segments.validation import Stability, Structure, segment_verdict
from segkit.texts import name_phrase

FORECAST_COLUMNS = [f"{name}{part}" for name in ("active_share_next", "spend_next") for part in ("", "_low", "_high")]
FORECAST_COLUMNS += ["spend_change"]


def make_segment_table(
    sizes: pd.DataFrame,
    *,
    stability: Stability | None,
    structure: Structure | None = None,
    ids: Sequence[str] = (),
    names: Mapping[str, str] | None = None,
    earlier: pd.DataFrame | None = None,
    features: pd.DataFrame,
    segment: pd.Series,
    needs: pd.DataFrame | None = None,
    signals: pd.DataFrame | None = None,
    people: str = "buyers",
) -> pd.DataFrame:
    """Assemble the segment table: sizes, stability, verdicts, names and needs.

    Parameters
    ----------
    sizes
        Size of each segment.
    stability, structure
        Results of the refits; None where not tested.
    ids
        Segment of each centre that the refits were compared on, in their order.
    names
        Names decided by a person, by segment.
    earlier
        The segment table of the previous run, whose names stay as far as they are still true.
    features, segment
        Features and segment id by ``customer_id``.
    needs
        Id and name of the need of each segment (`need, need_name` by segment), null where no single one leads.
    signals
        As returned by `traits.segment_signals`; habits name a segment without a need.
    people
        Word for customers in a name.

    Returns
    -------
    DataFrame
        A row for each segment; ``FORECAST_COLUMNS`` and ``action`` are null until the forecast and the personas of the
        run fill them.
    """
    columns = ["stability", "stability_low", "stability_high"]
    refits = pd.DataFrame(index=pd.Index([], dtype=object), columns=columns, dtype=float)
    if stability is not None:  # segments merged by a person share the mean of their parts
        refits = stability.segments[columns].groupby(list(ids)).mean()
    table = sizes.merge(refits.rename_axis("segment").reset_index(), on="segment", how="left", validate="one_to_one")
    table["verdict"] = [segment_verdict(j, reference=structure) for j in table["stability"]]
    needs = pd.DataFrame(index=table["segment"], columns=["need", "need_name"]) if needs is None else needs
    levels = level_names(table, stages=member_stages(features, segment))
    people = name_phrase(people)
    named = name_segments(levels, needs["need_name"], habits=signals, people=people)
    named["level"], named["need"] = levels, needs["need"].reindex(named.index)
    given = {**earlier_names(earlier, now=named, people=people), **(names or {})}
    named["name"] = named.index.map(inherit_names(named["name"].to_dict(), given))
    table = table.merge(named.reset_index(), on="segment", validate="one_to_one")
    return table.assign(**dict.fromkeys(FORECAST_COLUMNS, np.nan), action=None)
