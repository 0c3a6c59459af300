"""By segment: what goes with not coming back, and what its own members buy next (cross-sell and up-sell)."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.stats import hypergeom, norm

from segkit.actions.predict_known import Lesson
from segkit.customers.features import Signals
from segkit.customers.outcomes import Outcomes
from segkit.customers.terms import aligned, are_free_text, common_terms, term_weights
from segkit.period import Period
from segkit.stats import Z95, discoveries, proportion_interval
from segkit.vocabulary import EVERYONE, describe

FEWEST_APART = 10  # customers who came, and who did not, before anything is said of churn
FEWEST = 20  # customers that a share rests on
TERMS = 200  # categories or words that an offer may be
FALSE_SHARE = 0.05  # of what is told as a driver, expected to be chance (Benjamini & Hochberg 1995)
SAME = 0.7  # rank correlation above which a second feature says the same
TOLD = 3  # drivers, and offers of each kind, of a segment
DRIVERS = [
    "segment",
    "feature",
    "words",
    "customers",
    "lost_above",
    "lost_below",
    "effect",
    "effect_low",
    "effect_high",
]
OFFERS = ["segment", "kind", "term", "asked", "share", "share_low", "share_high", "others", "more", "reach"]


def churn_drivers(training: Lesson, segment: pd.Series) -> pd.DataFrame:
    """Which habits went with not coming back in the horizon that was learnt from, within each segment.

    Members are halved by each habit at the middle of their segment; the effect is the share lost above less the share
    lost below. It goes with churn; nothing says that it makes it.

    Takes  lesson; segment: of its customers one horizon ago
    Gives  segment (and "all"), feature, words, customers, lost_above, lost_below (shares), effect, effect_low,
           effect_high (95 %, Agresti & Caffo 2000); at most three of a segment, strongest first; only those that stand
           out among all that were looked at, with at most one false in twenty
    """
    features, lost = training.snapshot.signals.features, ~training.outcomes.active
    habits = [name for name in features.columns if not name.startswith("stage_")]
    rows = [row for name, inside in _groups(segment) for row in _halved(name, features[habits], lost, inside)]
    table = pd.DataFrame(rows, columns=[*DRIVERS, "p"])
    if table.empty:
        return table[DRIVERS]
    found = table[discoveries(table["p"].to_numpy(), share=FALSE_SHARE)].sort_values(["segment", "p", "feature"])
    ranks = features[habits].rank()
    drivers: list[pd.Series] = []
    for _, row in found.iterrows():
        own = [k["feature"] for k in drivers if k["segment"] == row["segment"]]
        if len(own) < TOLD and all(abs(ranks[row["feature"]].corr(ranks[other])) < SAME for other in own):
            drivers.append(row)
    return pd.DataFrame(drivers, columns=DRIVERS).reset_index(drop=True)


def next_offers(
    training: Lesson, segment: pd.Series, *, now: Signals, segment_now: pd.Series, period: Period
) -> pd.DataFrame:
    """What members of a segment took next: what they had not bought yet, and what they bought more of.

    Takes  lesson; segment: of its customers one horizon ago; now, segment_now: today's customers
    Gives  segment, kind (cross-sell, up-sell), term, asked (members one horizon ago who had not, or had, bought it),
           share of them who then bought it, or more of it a day than before, share_low, share_high (95 %, Wilson),
           others (the same share elsewhere; null where it rests on fewer than twenty), more (surely more than that, all
           that was looked at being counted), reach (members today it could be offered to); of a kind at most three:
           those with `more` first, then by the lower end of the interval
    """
    then, outcomes = training.snapshot.signals, training.outcomes
    if then.weights is None or outcomes.weights is None:
        return pd.DataFrame(columns=OFFERS)
    terms = _terms(then)
    before, after = (amounts_of(each, terms) for each in (then, outcomes))
    takes = {
        "cross-sell": (before <= 0, after > 0),
        "up-sell": (before > 0, after / period.horizon_days > before / period.lookback_days),
    }
    labels, labels_now, rows = segment.to_numpy(), segment_now.to_numpy(), []
    names, buy = sorted(set(labels_now)), _terms_of(now, terms) > 0
    limit = 0.05 / max(len(names) * len(takes) * len(terms), 1)  # Bonferroni: some of so many are high by chance
    for name in names:
        members = labels_now == name
        buyers = np.asarray(buy[members].sum(axis=0)).ravel()
        reach = {"cross-sell": members.sum() - buyers, "up-sell": buyers}
        for kind, (asked, took) in takes.items():
            own = _surest(labels == name, terms, asked, took, reach[kind], limit=limit)
            rows += [(name, kind, *row) for row in own]
    return pd.DataFrame(rows, columns=OFFERS).round(9)


def amounts_of(of: Signals | Outcomes, terms: list[str]) -> np.ndarray:
    """What each customer bought of the terms: categories, or words where the terms came from free text."""
    return np.maximum(_terms_of(of, terms).toarray(), 0.0)


def _terms_of(of: Signals | Outcomes, terms: list[str]) -> sparse.csr_array:
    weights, names = term_weights(of.weights, list(of.categories), words=not set(terms) <= set(of.categories))
    return aligned(weights, names, to=terms)


def _terms(signals: Signals) -> list[str]:
    words = are_free_text(list(signals.categories))
    return common_terms(signals.weights, signals.categories, words=words, most=TERMS, rarest=FEWEST)[-1]


def _groups(segment: pd.Series) -> Iterator[tuple[str, np.ndarray]]:
    yield EVERYONE, np.ones(len(segment), dtype=bool)
    for name in sorted(set(segment)):
        yield name, (segment == name).to_numpy()


def _halved(name: str, features: pd.DataFrame, lost: np.ndarray, inside: np.ndarray) -> list[tuple[object, ...]]:
    """A row for each feature of a group of which enough came and enough did not."""
    gone = lost[inside]
    if min(gone.sum(), (~gone).sum()) < FEWEST_APART:
        return []
    rows = []
    for feature, values in features[inside].items():
        above = (values > values.median()).to_numpy()
        if min(above.sum(), (~above).sum()) < FEWEST:
            continue
        counts = [(gone[half].sum(), half.sum()) for half in (above, ~above)]
        shares = [(lost_of + 1) / (of + 2) for lost_of, of in counts]
        spread = np.sqrt(sum(s * (1 - s) / (of + 2) for s, (_, of) in zip(shares, counts, strict=True)))
        middle = shares[0] - shares[1]
        plain = [lost_of / of for lost_of, of in counts]
        at = plain[0] - plain[1], middle - Z95 * spread, middle + Z95 * spread
        p = 2 * norm.sf(abs(middle) / spread)
        rows.append((name, feature, describe(feature).label, len(gone), *plain, *np.round(at, 9), p))
    return rows


def _surest(
    members: np.ndarray, terms: list[str], asked: np.ndarray, took: np.ndarray, reach: np.ndarray, *, limit: float
) -> list[tuple[object, ...]]:
    """At most three terms of a segment; `more` by Fisher's exact test against everyone else."""
    inside, outside = (asked[who].sum(axis=0) for who in (members, ~members))
    yes, no = ((asked & took)[who].sum(axis=0) for who in (members, ~members))
    stands_out = hypergeom.sf(yes - 1, inside + outside, yes + no, inside) < limit
    rows = []
    for i in np.flatnonzero((inside >= FEWEST) & (reach >= 1)):
        other_share, more = (no[i] / outside[i], stands_out[i]) if outside[i] >= FEWEST else (np.nan, False)
        at = proportion_interval(yes[i], inside[i])
        rows.append((terms[i], int(inside[i]), *at, other_share, bool(more), int(reach[i])))
    return sorted(rows, key=lambda row: (not row[6], -row[3], row[0]))[:TOLD]
