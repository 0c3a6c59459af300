"""The forecast of segments: sums of what is expected of their customers, with chance and season in the interval."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from segkit.actions.predict_backtest import Trial, testing
from segkit.segments.place import SegmentModel, place
from segkit.stats import Z95
from segkit.vocabulary import EVERYONE

FEWEST = 20  # customers of a segment, before its miss in a back-test tells of the season
BLOCKS = 20  # of customers by what was promised, between which the size of errors is drawn


def segment_sums(
    predictions: pd.DataFrame,
    segment: pd.Series,
    *,
    origins: Sequence[Trial],
    chosen: Mapping[str, str],
    model: SegmentModel,
) -> pd.DataFrame:
    """What each segment, and everyone together, is expected to do in the horizon.

    The interval has two parts. Chance: customers do as they like, each by themselves; their spread is read off the
    back-test, or where there is none off the chances and bands. Season: by how much the sums of segments were missed,
    beyond chance, in the back-test: as far off, in either direction, as it was then.

    Takes  predictions: by customer_id; segment of each; trials: of the back-test, or none; model: places customers of
           earlier dates
    Gives  segment (and "all"), customers; active_share, move_share, orders, spend (sums) and value_12m (null where not
           known); each with _low, _high (95 %) and _season, the part of the variance that season is (null without a
           back-test). Of moves the interval is chance only, of value_12m there is none: a year cannot be tested
    """
    groups = {EVERYONE: segment.index} | {name: part.index for name, part in segment.groupby(segment)}
    missed = season_errors(origins, chosen=chosen, model=model)
    rows = [
        {"segment": name, "customers": len(members)} | _sums(predictions.loc[members], missed, origins, chosen)
        for name, members in groups.items()
    ]
    return pd.DataFrame(rows).round(6)


def season_errors(origins: Sequence[Trial], *, chosen: Mapping[str, str], model: SegmentModel) -> dict[str, float]:
    """How far sums of segments were off in the back-test, beyond chance: the root mean square of came / promised - 1,
    less what chance alone would do. Not there without a back-test.
    """
    found = {}
    for target, name in chosen.items() if origins else ():
        squares, weights = [], []
        for origin in testing(origins, target=target, name=name):
            placed = place(model, origin.snapshot.signals)["segment"].to_numpy()
            predicted, observed = origin.predicted(target, name), origin.observed(target)
            for group in [*np.unique(placed), None]:
                inside = placed == group if group is not None else np.ones(len(placed), dtype=bool)
                if inside.sum() < FEWEST or predicted[inside].sum() <= 0:
                    continue
                off = observed[inside].sum() / predicted[inside].sum() - 1
                chance = np.square(observed - predicted)[inside].sum() / predicted[inside].sum() ** 2
                squares.append(off**2 - chance)
                weights.append(predicted[inside].sum())
        if weights:
            found[target] = float(np.sqrt(max(np.average(squares, weights=weights), 0.0)))
    return found


def _sums(
    part: pd.DataFrame, missed: Mapping[str, float], origins: Sequence[Trial], chosen: Mapping[str, str]
) -> dict[str, float]:
    row: dict[str, float] = {}
    chance = part["active_chance"]
    row |= _ranged(
        "active_share", chance.mean(), np.sqrt((chance * (1 - chance)).sum()) / len(part), missed.get("active")
    )
    for target in (each for each in ("orders", "spend") if each in chosen):
        expected = part[f"{target}_mean"].sum(min_count=1)
        spread = _spread(part, target=target, origins=origins, chosen=chosen)
        row |= _ranged(target, expected, spread, missed.get(target))
    moves = part["move_chance"]
    row |= _ranged("move_share", moves.mean(), np.sqrt((moves * (1 - moves)).sum()) / len(part), None)
    row["value_12m"] = part["value_12m"].sum(min_count=1)
    return row


def _spread(part: pd.DataFrame, *, target: str, origins: Sequence[Trial], chosen: Mapping[str, str]) -> float:
    """Standard deviation, by chance, of a sum over customers: errors grow with the size of what is expected, so they
    are taken from the back-test's customers of the most similar expectation; without one from the bands.
    """
    origins = testing(origins, target=target, name=chosen[target])
    if not origins:
        return float(np.sqrt(np.square((part[f"{target}_high"] - part[f"{target}_low"]) / (2 * Z95)).sum()))
    predicted = np.concatenate([origin.predicted(target, chosen[target]) for origin in origins])
    observed = np.concatenate([trial.observed(target) for trial in origins])
    blocks = [rows for rows in np.array_split(np.argsort(predicted, kind="stable"), BLOCKS) if len(rows)]
    at = np.array([predicted[rows].mean() for rows in blocks])
    off = np.array([np.sqrt(np.square((observed - predicted)[rows]).mean()) for rows in blocks])
    expected = part[f"{target}_mean"].to_numpy()
    beyond = np.maximum(expected / max(at[-1], 1e-12), 1.0)  # above the last block errors grow with what is expected
    return float(np.sqrt(np.square(np.interp(expected, at, off) * beyond).sum()))


def _ranged(name: str, at: float, spread: float, season: float | None) -> dict[str, float]:
    """The figure, its interval, and the part of the half-width squared that is season; a share stays within 0 and 1."""
    if not np.isfinite(at):
        return dict.fromkeys((name, f"{name}_low", f"{name}_high", f"{name}_season"), np.nan)
    beyond = at * (season or 0.0)
    half = Z95 * np.hypot(spread, beyond)
    high = min(at + half, 1.0) if name.endswith("share") else at + half
    part = np.nan if season is None else beyond**2 / max(spread**2 + beyond**2, 1e-12)
    return {name: at, f"{name}_low": max(at - half, 0.0), f"{name}_high": high, f"{name}_season": part}
