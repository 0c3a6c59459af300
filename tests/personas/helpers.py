"""Hand-made tables that several tests of this folder share."""

from datetime import date

import numpy as np
import pandas as pd
from scipy import sparse

from segkit.customers.features import CustomerData
from segkit.customers.needs import Needs
from segkit.period import Period
from segkit.personas.evidence import CardTables, collect_facts
from segkit.personas.facts import Fact
from segkit.personas.traits import FAVOURITE_COLUMNS

ACTIVITY_LEVELS = ("often", "steady", "seldom", "fading")
PERIOD = Period(date(2018, 1, 1), lookback_days=182, horizon_days=91)
THINGS = ("TEA", "RUM", "GIN", "BREAD", "MILK")


def needs_of(**terms: list[str]) -> pd.DataFrame:
    """Favourites of segments, strongest first."""
    rows = [
        (s, term, 1.0, 0.8, 1.2, 0.3 - i / 100, 0.1, 0.9 - i / 10)
        for s, names in terms.items()
        for i, term in enumerate(names)
    ]
    return pd.DataFrame(rows, columns=FAVOURITE_COLUMNS)


def members_of(segments: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
    """Features of the customers of the segments, which differ by segment, and the segment of each."""
    segment = segments["segment"].repeat(segments["customers"]).reset_index(drop=True)
    segment.index = pd.Index([f"c{i:03d}" for i in range(len(segment))], name="customer_id")
    at = segment.map({s: i for i, s in enumerate(segments["segment"])}).astype(float)
    features = pd.DataFrame(
        {"orders": 4 + at, "gap_days": 9.5 + 3 * at, "order_value": 20 + 7 * at}, index=segment.index
    )
    features = features.assign(lines_per_order=3 + at, weekend_share=0.2 + 0.1 * at, active_days=4 + at)
    features["spend"] = features["orders"] * features["order_value"]
    return features.assign(stage_active=0.8, stage_cooling=0.1, stage_lapsed=0.06, stage_new=0.04), segment


def drinks(*, names: tuple[str, str] = ("Drinks", "Breakfast")) -> Needs:
    """Return two needs: drinks (tea, rum and gin), and breakfast (bread and milk)."""
    need_of = np.array([0, 0, 0, 1, 1])
    half, five = np.array([0.5, 0.5]), np.ones(5)
    return Needs(
        ids=("N01", "N02"),
        names=names,
        things=THINGS,
        words=False,
        need_of=need_of,
        spend=half,
        buyers=np.array([9, 9]),
        stability=half,
        weight=five / 5,
        plane=np.zeros((5, 2)),
        agreement=0.9,
        noise_share=0.0,
        coverage=1.0,
    )


def bought_by(segment: pd.Series, **drinking: float) -> CustomerData:
    """Return what customers bought: this share of their money on drinks, by segment, else a fifth."""
    part = segment.map(drinking).fillna(0.2).to_numpy()
    amounts = np.outer(part, [0.5, 0.3, 0.2, 0.0, 0.0]) + np.outer(1 - part, [0.0, 0.0, 0.0, 0.6, 0.4])
    features = pd.DataFrame(index=segment.index)
    return CustomerData(features, sparse.csr_array(100 * amounts), THINGS)


def facts_of(
    segments: pd.DataFrame, tables: CardTables | None = None, *, needs: Needs | None = None, **more: object
) -> list[Fact]:
    """Return the facts of segments; those with a need spend half of their money on it."""
    features, segment = members_of(segments)
    led = segments.set_index("segment")["need"] if "need" in segments else pd.Series(dtype=object)
    customers = bought_by(segment, **{own: 0.5 for own, need in led.items() if need == "N01"})
    return collect_facts(
        segments,
        customers=customers,
        features=features,
        segment=segment,
        tables=tables or CardTables(favourites=needs_of()),
        period=PERIOD,
        needs=needs,
        **more,
    )
