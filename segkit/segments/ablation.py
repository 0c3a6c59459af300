"""What HDBSCAN decides: the same segments on needs that were grouped without it, and at random."""

from itertools import pairwise

import numpy as np
import pandas as pd

from segkit.customers.anticipation import coordinates
from segkit.customers.needs import needs_without_hdbscan, purchases_of_customers, shuffled_needs
from segkit.segments.clustering import make_segmentation, subsample_rows
from segkit.segments.fit import Fit, FitData, fit_space
from segkit.segments.scoring import adjusted_r2, scoring_outcomes
from segkit.stats import adjusted_rand


def ablation(data: FitData, fit: Fit, *, seed: int = 7) -> pd.DataFrame | None:
    """Measure what HDBSCAN decides: make the segments again without it, and with its groups shuffled.

    Parameters
    ----------
    data, fit
        The data of a fit, and the fit; scored on the outcomes of its training window.
    seed
        Draws the shuffled groups.

    Returns
    -------
    pandas.DataFrame or None
        needs ("UMAP and HDBSCAN"; "average linkage", as many groups of the same similarities without either;
        "shuffled", groups of the same sizes at random), segments, spend_r2, need_r2 and mix_r2 (one horizon ago, with
        the needs of the fit), stability (in the space), ari (with the segments of the fit); None without needs or
        outcomes.
    """
    if fit.needs is None or data.then is None or data.outcomes is None:
        return None
    outcomes = scoring_outcomes(data.outcomes, needs=fit.needs)
    variants = {
        "UMAP and HDBSCAN": fit.needs,
        "average linkage": needs_without_hdbscan(data.purchases or purchases_of_customers(data.now), fit.needs),
        "shuffled": shuffled_needs(fit.needs, seed=seed),
    }
    rows = []
    for name, needs in variants.items():
        space = fit.model.space if needs is fit.needs else fit_space(data, needs=needs, seed=seed)
        points, then = (coordinates(space, each).to_numpy() for each in (data.now, data.then))
        family, segments = fit.segmentation.shape
        shape = {"family": family, "segments": segments}
        made = make_segmentation(points[fit.in_sample], **shape)
        number = made.assign(points)
        row = {"needs": name, "segments": len(made.centres)}
        for measure in ("spend", "need", "mix"):
            inside, values = outcomes.values.get(measure, (np.zeros(0, dtype=int), None))
            scored = values is not None
            row[f"{measure}_r2"] = float(adjusted_r2(made.assign(then)[inside], values)[0]) if scored else np.nan
        again = [
            make_segmentation(points[fit.in_sample][part], **shape).assign(points)
            for part in subsample_rows(int(fit.in_sample.sum()), seed=seed)
        ]
        row["stability"] = float(np.mean([adjusted_rand(a, b) for a, b in pairwise(again)]))
        row["ari"] = adjusted_rand(fit.segment_number, number)
        rows.append(row)
    return pd.DataFrame(rows)
