"""Validate segments: baselines out of time, stability of refits, and structure against data without any."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from itertools import combinations

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.tree import DecisionTreeRegressor

from segkit.customers.category_mix import common_terms
from segkit.customers.days import Days
from segkit.customers.features import CustomerData
from segkit.data.readiness import FEWEST_CUSTOMERS
from segkit.data.runs import Run
from segkit.format import FLOOR
from segkit.period import Period
from segkit.segments.clustering import Budget, make_segmentation
from segkit.segments.fit import (
    Fit,
    FitData,
    TrainingWindow,
    TrainingWindows,
    first_active_day,
    fit_segments,
    has_history,
)
from segkit.segments.lineage import segments_under_model
from segkit.segments.model import model_from_arrays
from segkit.segments.scoring import (
    MEASURES,
    MIX_TERMS,
    compare_segmentations,
    lead_verdict,
    scoring_outcomes,
)
from segkit.stats import Z95, Estimate, adjusted_rand, rank_groups
from segkit.vocabulary import IN_PART, NONE, UNSTABLE, is_in_space

BASELINE_LABELS = {
    "ours": "our segments",
    "as_today": "ours, as many as today",
    "rfm11": "RFM with its 11 usual names",
    "rfm25": "recency and frequency (5 × 5)",
    "rfm125": "RFM (5 × 5 × 5)",
    "kmeans": "K-means on behaviour",
    "kmeans_space": "K-means in the same space",
    "latent_classes": "latent classes of behaviour",
    "tree": "a decision tree",
    "demographic": "demographics",
    "geographic": "geography",
    "survey": "survey answers",
    "current_segment": "the segments used today",
    "last_run": "the segments of the last run",
}
RFM_NAMES = (  # by fifth of recency (rows: longest ago first) and of frequency (columns: rarest first)
    ("Lost", "Lost", "At Risk", "At Risk", "Can't Lose Them"),
    ("Hibernating", "Hibernating", "At Risk", "At Risk", "Can't Lose Them"),
    ("About to Sleep", "About to Sleep", "Need Attention", "Loyal", "Loyal"),
    ("Promising", "Potential Loyalist", "Potential Loyalist", "Loyal", "Loyal"),
    ("New Customers", "Potential Loyalist", "Potential Loyalist", "Champions", "Champions"),
)
FIFTHS = 5  # of recency, frequency and money
GROUPED_ROLES = ("demographic", "geographic", "survey")
MAX_GROUPS = 12  # of customers with similar attributes


def baseline_segmentations(
    now: CustomerData, *, axes: pd.DataFrame, count: int, before: TrainingWindow | None = None, seed: int = 7
) -> dict[str, np.ndarray]:
    """Make the usual segmentations from the same data at the same date.

    Parameters
    ----------
    now
        Features of the customers.
    axes
        Coordinates of the same customers.
    count
        Number of segments, for those that take a number.
    before
        Customers one horizon earlier and what they did since, for the decision tree.

    Returns
    -------
    dict
        Name -> group of each customer, in the order of `now`.
    """
    features = now.features
    recency, frequency = _recency_and_frequency(features)
    found = {"rfm11": rfm_names(features), "rfm25": recency * FIFTHS + frequency}
    if "spend" in features:
        found["rfm125"] = found["rfm25"] * FIFTHS + rank_groups(features["spend"], parts=FIFTHS)
    behaviour = _log_behaviour(features)
    spread = behaviour.std(axis=0)
    scaled = (behaviour - behaviour.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    found["kmeans"] = KMeans(count, n_init=5, random_state=seed).fit_predict(scaled)
    found["kmeans_space"] = KMeans(count, n_init=5, random_state=seed).fit_predict(axes.to_numpy())
    mixture = GaussianMixture(count, covariance_type="diag", reg_covar=0.01, max_iter=50, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a baseline that is nearly converged is fair
        found["latent_classes"] = mixture.fit_predict(scaled)
    if before is not None:
        tree = DecisionTreeRegressor(max_leaf_nodes=count, min_samples_leaf=FLOOR, random_state=seed)
        tree.fit(_log_behaviour(before.customers_like(now).features), before.outcomes.value)
        found["tree"] = tree.apply(behaviour)
    return found


def _log_behaviour(features: pd.DataFrame) -> np.ndarray:
    """Return the features of the space on a log scale."""
    return np.log1p(features[[name for name in features.columns if is_in_space(name)]].clip(lower=0)).to_numpy()


def rfm_names(features: pd.DataFrame) -> np.ndarray:
    """Return the usual RFM name of each customer by recency and frequency, as most tools print it; needs no money.

    Parameters
    ----------
    features
        recency_days, and orders or active_days.

    Returns
    -------
    numpy.ndarray
        One of eleven names for each customer; equal values get equal scores, so some names may be empty.
    """
    return np.array(RFM_NAMES, dtype=object)[_recency_and_frequency(features)]


def previous_run_baseline(previous: Run | None, then: CustomerData | None) -> dict[str, pd.Series]:
    """Assign customers of one horizon ago with the previous run's model, as a baseline.

    Parameters
    ----------
    previous
        A finished run, or None.
    then
        Features at the origin of the backtest, or None.

    Returns
    -------
    dict
        last_run -> group by customer_id; empty without a previous run.
    """
    if previous is None or then is None:
        return {}
    return {"last_run": segments_under_model(model_from_arrays(*previous.load_model()), then)}


def previous_run_label(previous: Run | None, *, origin: date) -> dict[str, str]:
    """Return a label with the date of the previous run, and how many of the scored days it had already seen."""
    if previous is None:
        return {}
    made = previous.period.as_of
    seen = max(0, (made - origin).days)
    suffix = f", which saw {seen} of the days judged" if seen else ""
    return {"last_run": f"the run of {made.isoformat()}{suffix}"}


def attribute_groups(people: pd.DataFrame | None, *, roles: Mapping[str, str], seed: int = 7) -> dict[str, pd.Series]:
    """Group customers by their attributes: demographics, geography, survey answers, and the segment used today.

    Parameters
    ----------
    people
        customer_id and columns with roles, or None.
    roles
        Column -> role.

    Returns
    -------
    dict
        Role -> group by customer_id; missing where all columns of the role are empty.
    """
    if people is None:
        return {}
    table = people.set_index("customer_id")
    found = {}
    for role in GROUPED_ROLES:
        columns = sorted(c for c in table.columns if roles.get(c) == role)
        if columns:
            found[role] = _cluster_attributes(table[columns], seed=seed)
    today = sorted(c for c in table.columns if roles.get(c) == "current_segment")
    if today:
        found["current_segment"] = table[today[0]].astype(object)
    return found


def _cluster_attributes(table: pd.DataFrame, *, seed: int) -> pd.Series:
    """Use one column with few values as it is; cluster several by KMeans on their indicators."""
    filled = table.dropna(how="all")
    if len(filled.columns) == 1 and filled.iloc[:, 0].nunique() <= MAX_GROUPS:
        return filled.iloc[:, 0].astype(object)
    text = filled.select_dtypes(exclude="number").astype(object).fillna("unknown").astype(str)
    numeric = filled.select_dtypes(include="number")
    parts = [pd.get_dummies(text, dtype=float)] if len(text.columns) else []
    if len(numeric.columns):
        spread = numeric.std().replace(0, 1.0)
        parts.append(((numeric - numeric.mean()) / spread).fillna(0.0).astype(float))
    joined = pd.concat(parts, axis=1).to_numpy()
    count = min(MAX_GROUPS, len(np.unique(joined, axis=0)))
    return pd.Series(KMeans(count, n_init=5, random_state=seed).fit_predict(joined), index=filled.index, dtype=object)


def _recency_and_frequency(features: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return fifths of recency (4: most recent) and frequency (4: most often): of orders, or else of active days."""
    frequency = features["orders"] if "orders" in features else features["active_days"]
    return rank_groups(-features["recency_days"], parts=FIFTHS), rank_groups(frequency, parts=FIFTHS)


N_REFITS = {"quick": 5, "full": 20}  # refits
REFIT_SHARE = 0.8
REFIT = {"bags": 6, "n_subsamples": 0}  # ten bags take longer for the same stability; one shape needs no rating


@dataclass(frozen=True)
class Stability:
    """Hold how well refits agree.

    Parameters
    ----------
    ari
        Adjusted Rand index, refits x refits.
    segments
        Mean Jaccard of each segment with its best match in each refit, and the range over the refits.
    """

    ari: np.ndarray
    segments: pd.DataFrame

    @property
    def mean(self) -> float:
        """Return the mean adjusted Rand index over the pairs of refits."""
        return _mean_of_pairs(self.ari)

    def metrics(self) -> dict[str, float]:
        """Return stability.ari_mean with its 95 % interval (jackknife, at most 1), and the number of refits."""
        n_refits = len(self.ari)
        left_out = np.array([_mean_of_pairs(np.delete(np.delete(self.ari, i, 0), i, 1)) for i in range(n_refits)])
        half = Z95 * np.sqrt((n_refits - 1) / n_refits * np.square(left_out - left_out.mean()).sum())
        found = Estimate(self.mean, self.mean - half, min(self.mean + half, 1.0))  # 1 is the most there is
        return found.metrics("stability.ari_mean") | {"stability.fits": n_refits}


def stability(data: FitData, fit: Fit, *, n_refits: int = N_REFITS["quick"], seed: int = 7) -> Stability:
    """Refit everything on subsamples of the sampled customers, assign them all, and compare.

    Parameters
    ----------
    data
        The data of the fit.
    fit
        The segmentation; refits have its family and number of segments.
    n_refits
        Three or more; more narrow the interval.
    seed
        The same seed gives the same result on one machine.

    Returns
    -------
    Stability
        Adjusted Rand index between refits, and Jaccard of each segment with its best match in each.
    """
    count = len(fit.segmentation.centres)
    budget = Budget(min_segments=count, max_segments=count, smallest_share=0.0, families=(fit.segmentation.family,))
    data = replace(data, now=data.now.select(fit.in_sample))
    everyone = data.now.features.index
    if data.then is not None:
        everyone = everyone.union(data.then.features.index)
    labels = []
    for i in range(n_refits):
        rng = np.random.default_rng([seed, 1000 + i])
        fit_on = everyone[np.sort(rng.permutation(len(everyone))[: int(REFIT_SHARE * len(everyone))])]
        again = fit_segments(data, fit_on=fit_on, budget=budget, **REFIT, seed=seed + 101 * (i + 1))
        labels.append(again.segment_number)
    ari = np.eye(n_refits)
    for i, j in combinations(range(n_refits), 2):
        ari[i, j] = ari[j, i] = adjusted_rand(labels[i], labels[j])
    best = np.array([best_jaccard(fit.segment_number[fit.in_sample], other) for other in labels])
    table = pd.DataFrame(
        {"stability": best.mean(axis=0), "stability_low": best.min(axis=0), "stability_high": best.max(axis=0)}
    )
    return Stability(ari=ari, segments=table)


def best_jaccard(number: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return each group's intersection over union with the group of another segmentation that matches it best.

    Examples
    --------
    >>> best_jaccard(np.array([0, 0, 1, 1]), np.array([5, 5, 5, 9])).round(2).tolist()
    [0.67, 0.5]
    """
    table = pd.crosstab(number, other).to_numpy()
    union = table.sum(axis=1)[:, None] + table.sum(axis=0)[None, :] - table
    return (table / union).max(axis=1)


def _mean_of_pairs(ari: np.ndarray) -> float:
    """Return the mean over pairs of refits."""
    return float(ari[np.triu_indices(len(ari), 1)].mean())


NULL_PERCENTILE = 95  # percentile of the reference that structure has to beat
N_NULL_COPIES = {"quick": 5, "full": 10}  # pairs of refits on the real customers, and on as many shuffled copies
STABLE_VERDICTS = ("natural", "reproducible")  # verdicts of segments that come back
MOST_REAPPEAR = 2 / 3  # of the segments, from which on they are said to be groups without reserve
MOST_UNSTABLE, FEW_STABLE = 0.5, 0.25  # shares of customers
MIN_STABLE_JACCARD, MIN_REPRODUCIBLE_JACCARD = 0.5, 0.6  # Jaccard (Hennig 2007; Dolnicar & Leisch 2010)


@dataclass(frozen=True)
class Structure:
    """Hold the test of structure: pairs of segmentations in one space, of customers and of shuffled copies.

    Parameters
    ----------
    real
        Adjusted Rand index of each pair made from the customers.
    ari, jaccard
        That of each pair made from a copy with the same margins and no structure, and each segment's Jaccard in it.
    """

    real: np.ndarray
    ari: np.ndarray
    jaccard: np.ndarray

    @property
    def found(self) -> bool:
        """Return whether nearly all pairs agree better than nearly all pairs of data without structure."""
        return bool(np.percentile(self.real, 100 - NULL_PERCENTILE) > np.percentile(self.ari, NULL_PERCENTILE))

    def metrics(self) -> dict[str, object]:
        """Return structure.found, the agreement on customers, and the reference it had to beat."""
        return {
            "structure.found": self.found,
            "structure.ari": float(self.real.mean()),
            "structure.ari.low": float(self.real.min()),
            "structure.ari.high": float(self.real.max()),
            "structure.reference_ari": float(np.percentile(self.ari, NULL_PERCENTILE)),
            "structure.reference_ari.low": float(self.ari.min()),
            "structure.reference_ari.high": float(self.ari.max()),
            "structure.reference_jaccard": float(np.percentile(self.jaccard, NULL_PERCENTILE)),
        }


def structure(fit: Fit, *, pairs: int = N_NULL_COPIES["quick"], seed: int = 7) -> Structure:
    """Compare how well segmentations agree with how well they do on data with the same margins and no structure.

    Both are made in the space of the fit, each on 80 % of the customers, with the same family and number of segments.

    Parameters
    ----------
    fit
        The segmentation.
    pairs
        Pairs of segmentations of each kind; more make the percentile more precise.
    seed
        The same seed gives the same result on one machine.
    """
    points = fit.axes.to_numpy()[fit.in_sample]
    found: dict[str, list] = {"real": [], "ari": [], "jaccard": []}
    for i in range(pairs):
        rng = np.random.default_rng([seed, 2000 + i])
        shuffled = np.column_stack([rng.permutation(column) for column in points.T])
        if not fit.model.space.needs:
            shuffled[:, 2::2] = -shuffled[:, 1::2]  # both directions of a habit are one figure
        for name, rows in (("real", points), ("ari", shuffled)):
            pair = [_segment_again(rows, fit, rng=rng) for _ in range(2)]
            found[name].append(adjusted_rand(*pair))
        found["jaccard"].append(best_jaccard(*pair))
    return Structure(np.array(found["real"]), np.array(found["ari"]), np.concatenate(found["jaccard"]))


def segment_verdict(jaccard: float, *, reference: Structure | None = None) -> str:
    """Return unstable, constructed, reproducible or natural (Dolnicar & Leisch 2010, 2017).

    Parameters
    ----------
    jaccard
        Mean overlap of the segment with its best match in refits; without it the verdict is "not tested".
    reference
        The structure test; None where it was not made. A segment is natural only where it beats the reference.
    """
    if np.isnan(jaccard):
        return "not tested"
    if jaccard < MIN_STABLE_JACCARD:
        return UNSTABLE
    if jaccard < MIN_REPRODUCIBLE_JACCARD:
        return "constructed"
    if reference is not None and reference.found and jaccard > np.percentile(reference.jaccard, NULL_PERCENTILE):
        return "natural"
    return "reproducible"


def _segment_again(points: np.ndarray, fit: Fit, *, rng: np.random.Generator) -> np.ndarray:
    """Segment a subsample of the points, and assign all of them."""
    rows = np.sort(rng.permutation(len(points))[: int(REFIT_SHARE * len(points))])
    family, segments = fit.segmentation.shape
    return make_segmentation(points[rows], family=family, segments=segments).assign(points)


MIN_COVERAGE = 0.05  # share of customers; a baseline known for fewer is left out


def earlier_fit(
    training: TrainingWindows,
    *,
    days: Days | None = None,
    period: Period | None = None,
    budget: Budget | None = None,
    seed: int = 7,
) -> Fit | None:
    """Fit the segments of one horizon ago, without any later data; needs are learnt from the days before it.

    Returns
    -------
    Fit or None
        None where history is too short (lookback + 2 horizons).
    """
    data = training.earlier_fit_data(days=days, period=period)
    return None if data is None else fit_segments(data, budget=budget, seed=seed)


def preferred_shape(previous: Run | None, earlier: Fit | None) -> tuple[str, int] | None:
    """Return the family and number of segments to prefer within noise.

    They are those of the previous run, or else those that were best one horizon ago.
    """
    if previous is not None and previous.has("frontier"):
        table = previous.table("frontier")
        if "family" in table:
            return tuple(table.loc[table["chosen"], ["family", "segments"]].iloc[0])
    return earlier.segmentation.shape if earlier else None


def backtest(
    training: TrainingWindows,
    *,
    earlier: Fit | None,
    today: Fit | None = None,
    groups: Mapping[str, pd.Series] | None = None,
    labels: Mapping[str, str] | None = None,
    seed: int = 7,
) -> pd.DataFrame | None:
    """Score the segments of one horizon ago and their baselines on what customers did since.

    Parameters
    ----------
    training
        Training windows one and two horizons ago.
    earlier
        The segments of `earlier_fit`.
    today
        Today's fit; if it has another number of segments, the earlier customers in as many segments are a baseline.
    groups
        Further baselines: name -> group by customer_id, missing where unknown.
    labels
        Further labels of baselines.
    seed
        Seed of KMeans and of the resamplings.

    Returns
    -------
    pandas.DataFrame or None
        As `compare_segmentations`, with `label` and `verdict`; None without earlier segments.
    """
    if earlier is None or training.last is None:
        return None
    now, words = training.last.customers, earlier.model.space.words
    terms = scoring_terms(now, words=words)
    outcomes = scoring_outcomes(training.last.outcomes, needs=earlier.needs, terms=terms, words=words)
    found = {"ours": earlier.segment_number}
    if today is not None and today.segmentation.shape != earlier.segmentation.shape:
        found["as_today"] = _segment_like(today, earlier)
    count = len(earlier.segmentation.centres)
    found |= baseline_segmentations(now, axes=earlier.axes, count=count, before=training.before, seed=seed)
    for name, group in (groups or {}).items():
        codes = group.reindex(now.features.index)
        if codes.notna().mean() >= MIN_COVERAGE:
            found[name] = codes.to_numpy(dtype=object)
    table = compare_segmentations(found, outcomes, reference="ours", seed=seed)
    label_of = BASELINE_LABELS | dict(labels or {})
    table["label"] = [label_of.get(name, name.replace("_", " ")) for name in table["baseline"]]
    table["verdict"] = [
        lead_verdict(low, high) for low, high in zip(table["lead_low"], table["lead_high"], strict=True)
    ]
    return table


def _segment_like(today: Fit, earlier: Fit) -> np.ndarray:
    """Segment the customers of one horizon ago into as many segments as today; only the number is known later."""
    points = earlier.axes.to_numpy()
    family, segments = today.segmentation.shape
    return make_segmentation(points[earlier.in_sample], family=family, segments=segments).assign(points)


def baseline_table(compared: pd.DataFrame) -> pd.DataFrame:
    """Return one row per segmentation.

    Parameters
    ----------
    compared
        The result of `backtest`.

    Returns
    -------
    pandas.DataFrame
        baseline, label, segments, customers; r2, low, high, lead and its range by measure (null where the source lacks
        it); verdict.
    """
    columns = {}
    for measure in MEASURES:
        part = compared[compared["measure"] == measure].set_index("baseline")
        for name in ("r2", "low", "high", "lead", "lead_low", "lead_high", "verdict"):
            columns[f"{measure}_{name}"] = part[name]
    head = compared.drop_duplicates("baseline").set_index("baseline")[["label", "segments", "customers"]]
    table = head.join(pd.DataFrame(columns).reindex(head.index)).reset_index()
    table["verdict"] = [
        "these segments"
        if row["baseline"] == "ours"
        else ", ".join(f"{row[f'{m}_verdict']} on {m}" for m in MEASURES if isinstance(row[f"{m}_verdict"], str))
        for row in table.to_dict("records")
    ]
    return table


def validation_metrics(compared: pd.DataFrame | None, *, reason: str, money: bool = True) -> dict[str, object]:
    """Return the headline numbers of the backtest, or null with the reason.

    They are forward.spend_r2 with .low and .high, forward.rfm25.spend_r2, and so on; forward.spend_of says what spend
    is: active days where there is no `money`.
    """
    if compared is None:
        return {f"forward.{m}_r2{part}": None for m in MEASURES for part in ("", ".low", ".high")} | {
            "forward.reason": reason
        }
    count = compared.loc[compared["baseline"] == "ours", "segments"].max()
    metrics: dict[str, object] = {"forward.reason": None, "forward.segments": count}
    metrics["forward.spend_of"] = "spend" if money else "active_days"
    for row in compared.to_dict("records"):
        prefix = "" if row["baseline"] == "ours" else f"{row['baseline']}."
        name = f"forward.{prefix}{row['measure']}_r2"
        metrics |= {name: row["r2"], f"{name}.low": row["low"], f"{name}.high": row["high"]}
        if row["baseline"] != "ours":
            lead = f"forward.{row['baseline']}.{row['measure']}_lead"
            metrics |= {lead: row["lead"], f"{lead}.low": row["lead_low"], f"{lead}.high": row["lead_high"]}
    return metrics


def verdict(metrics: Mapping[str, object], *, found: bool, segments: pd.DataFrame) -> str:
    """Return groups, groups in part, cuts, or none: the segments dissolve, or predict nothing out of time.

    Parameters
    ----------
    metrics
        From `validation_metrics`.
    found
        Whether customers form groups that stand apart.
    segments
        With verdicts. They dissolve where most customers are in unstable ones, and under a quarter in stable ones.
    """
    if found:
        return IN_PART if reappears_in_part(segments) else "groups"
    unstable = segments.loc[segments["verdict"] == UNSTABLE, "customer_share"].sum()
    stable = segments.loc[segments["verdict"].isin(STABLE_VERDICTS), "customer_share"].sum()
    if unstable > MOST_UNSTABLE and stable < FEW_STABLE:
        return NONE
    lows = [metrics.get(f"forward.{measure}_r2.low") for measure in ("spend", "need")]
    lows = [low for low in lows if low is not None and np.isfinite(low)]
    return NONE if lows and max(lows) <= 0 else "cuts"


def reappears_in_part(segments: pd.DataFrame) -> bool:
    """Return whether too few of the tested segments reappear for groups to be spoken of without reserve."""
    tested = segments[segments["verdict"] != "not tested"]
    return int(tested["verdict"].isin(STABLE_VERDICTS).sum()) < MOST_REAPPEAR * len(tested)


def reason_without_backtest(days: Days, *, period: Period) -> str:
    """Return why there is no backtest, where there is none."""
    if has_history(days, period=period.one_horizon_back().one_horizon_back()):
        return f"fewer than {FEWEST_CUSTOMERS} customers were active then"
    required_days = period.lookback_days + 2 * period.horizon_days
    available_days = (period.as_of - (first_active_day(days) or period.as_of)).days
    return f"the proof needs {required_days} days of history (lookback and two horizons); there are {available_days}"


def scoring_terms(now: CustomerData, *, words: bool) -> list[str] | None:
    """Return the categories, or their words, of most customers in the lookback: the mix is scored on them."""
    if now.weights is None:
        return None
    return common_terms(now.weights, now.categories, words=words, most=MIX_TERMS, rarest=1)[-1]
