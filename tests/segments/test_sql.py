"""Placing as SQL: every engine says of every customer what the batch says, ties included."""

from dataclasses import replace
from pathlib import Path

import ibis
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from scipy import sparse

from segkit.customers.anticipation import Space, coordinates
from segkit.customers.features import CustomerData
from segkit.data.engine import open_engine
from segkit.data.runs import open_run
from segkit.errors import InputError, RunError, SchemaError
from segkit.segments.model import Assigner, SegmentModel, assign_segments, model_to_arrays
from segkit.segments.sql import DIALECTS, assign_in_engine, assignment_sql
from tests.engines import Spark

CATEGORIES = ("l'eau \\ gaz", 'the "red" one', "汤 面", "bread", "never learnt")
FEATURES = ("orders", "recency_days", "gap_variation", "activity_trend")  # two of them are read on a log scale
EXTREME = (-0.0, -1e-300, 5e-324, 1e-9, -7.0, 1e12, 1e300, -1e300, np.finfo(float).max, -np.finfo(float).max)
QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck), "phases": (Phase.generate,)}


def made_model(draw: np.random.Generator, *, words: bool, levels: bool = False) -> SegmentModel:
    """A model of small round numbers, so that many customers lie exactly between two centres or at a border."""
    halves = lambda *shape: draw.integers(-2, 3, shape) / 2.0  # noqa: E731
    terms = ("gaz", "one", "red", "面") if words else CATEGORIES[:4]
    space = Space(
        features=FEATURES,
        mean=halves(4),
        scale=draw.integers(1, 3, 4).astype(float),
        terms=terms,
        words=words,
        needs=(),
        outcome_names=(),
        behaviour_outcomes=halves(4, 3),
        log_outcomes=halves(4, 3),
        share_outcomes=halves(4, 3),
        constant_outcomes=halves(3),
        rotation=np.eye(3, 2),
        centre=halves(3),
    )
    centres = np.vstack([c := halves(4, 2), c[:1], -c])  # one centre twice, and pairs that mirror each other
    parts = {
        "borders": np.array([-1.0, 0.5]),
        "level": np.array([0, 1, 2, 2, 0, 1, 1, 2, 0]),
        "bag_borders": np.array([[-1.5, 0.5], [-1.0, 1.0], [-0.5, 0.5]]),
    }
    return SegmentModel(
        space=space,
        segments=("S01", "S02", "S03", "S04", "S01", "S05", "S06", "S07", "S08"),  # one merged into another
        macro=("M1", "M1", "M2", "M2", "M1", "M3", "M3", "M3", "it's M4"),
        need=("", "N01", "it's", "", "", "N02", "N01", "", "N02"),
        centres=centres,
        bag_centres=halves(6, 2),
        bag_of=np.array([0, 0, 1, 1, 1, 4]),
        bag_segment=draw.integers(0, 9, 6),
        **(parts if levels else {}),
    )


def made_signals(draw: np.random.Generator, *, customers: int) -> CustomerData:
    index = pd.Index([f"c'{i:04d}" for i in range(customers)], name="customer_id")
    values = draw.integers(-4, 5, (customers, 4)) / 2.0
    values[:, :2] = np.where(draw.random((customers, 2)) < 0.5, 0.0, draw.lognormal(1, 1, (customers, 2)).round(2))
    odd = draw.random((customers, 4)) < 0.05
    values[odd] = draw.choice(EXTREME, odd.sum())
    weights = draw.integers(0, 3, (customers, len(CATEGORIES))) * 1.0
    odd = draw.random(weights.shape) < 0.05
    weights[odd] = draw.choice([1e-300, 1e-9, 1e12], odd.sum())
    weights[::3] = 0.0  # a third bought nothing
    return CustomerData(
        features=pd.DataFrame(values, index=index, columns=list(FEATURES)),
        weights=sparse.csr_array(weights),
        categories=CATEGORIES,
    )


def as_tables(signals: CustomerData) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Features, and weights as a long table, as a warehouse has them."""
    found = signals.weights.tocoo()
    long = pd.DataFrame(
        {
            "customer_id": signals.features.index[found.row],
            "category": np.array(signals.categories, dtype=object)[found.col],
            "weight": found.data,
        }
    )
    return signals.features.reset_index(), long


def in_engine(con: ibis.BaseBackend, model: SegmentModel, signals: CustomerData) -> pd.DataFrame:
    features, weights = as_tables(signals)
    held = [con.create_table(n, t, overwrite=True) for n, t in (("features_in", features), ("weights_in", weights))]
    found = assign_in_engine(model, held[0], weights=held[1], confidence=True).to_pandas()
    return found.set_index("customer_id").sort_index().round(6)


def in_batch(model: SegmentModel, signals: CustomerData) -> pd.DataFrame:
    """What the batch says."""
    return assign_segments(model, signals)


@settings(max_examples=6, **QUIET)
@given(st.integers(0, 10**6), st.booleans(), st.booleans())
def test_batch_single_and_sql_agree_on_everyone(seed: int, words: bool, levels: bool) -> None:
    draw = np.random.default_rng(seed)
    model, signals = made_model(draw, words=words, levels=levels), made_signals(draw, customers=80)
    wanted = in_batch(model, signals)
    found = in_engine(ibis.duckdb.connect(), model, signals)
    pd.testing.assert_frame_equal(found, wanted, check_dtype=False)
    assigner, dense = Assigner(model), signals.weights.toarray()
    for i, (customer, row) in enumerate(wanted.iterrows()):
        one = assigner.assign_one(
            signals.features.loc[customer].to_dict(), weights=dict(zip(CATEGORIES, dense[i], strict=True))
        )
        assert (one.segment, one.macro_segment, one.need, one.confidence) == tuple(row)


@settings(max_examples=4, **QUIET)
@given(st.integers(0, 10**6), st.sampled_from([np.nan, np.inf, -np.inf, None]), st.sampled_from(FEATURES))
def test_who_the_batch_refuses_sql_gives_no_segment(seed: int, value: float | None, name: str) -> None:
    draw = np.random.default_rng(seed)
    model, signals = made_model(draw, words=False), made_signals(draw, customers=30)
    wanted = in_batch(model, signals)
    signals.features.loc["c'0003", name] = value
    with pytest.raises(SchemaError, match="missing or not finite"):
        assign_segments(model, signals)
    with pytest.raises(RunError, match=f"'{name}' is missing or not finite"):
        Assigner(model).assign_one(signals.features.loc["c'0003"].to_dict())
    found = in_engine(ibis.duckdb.connect(), model, signals)
    assert found.loc["c'0003"].isna().all()
    rest = wanted.index != "c'0003"
    pd.testing.assert_frame_equal(found[rest], wanted[rest], check_dtype=False)


def test_ties_are_frequent_in_what_is_compared() -> None:
    draw = np.random.default_rng(3)
    model, signals = made_model(draw, words=False), made_signals(draw, customers=400)
    at = np.array([Assigner(model).axes(f) for f in signals.features[::3].to_dict("records")])
    gaps = np.sort(np.square(at[:, None] - model.centres[1:]).sum(axis=2), axis=1)
    assert ((gaps[:, 1] - gaps[:, 0]) < 1e-9).mean() > 0.02


def test_customers_exactly_at_a_border_are_in_the_level_above_in_sql_too() -> None:
    draw = np.random.default_rng(3)
    model, signals = made_model(draw, words=False, levels=True), made_signals(draw, customers=80)
    value = coordinates(model.space, signals).to_numpy()[:, 0]
    at = np.unique(value)[5:60:4]  # values of customers, which the batch rounds and SQL does not
    level = np.arange(len(model.centres)) % 3
    for borders in zip(at, at[1:], strict=False):
        model = replace(model, borders=np.array(borders), level=level, bag_borders=np.tile(borders, (3, 1)))
        found = in_engine(ibis.duckdb.connect(), model, signals)
        pd.testing.assert_frame_equal(found, in_batch(model, signals), check_dtype=False)


@pytest.mark.parametrize("words", [False, True])
def test_postgres_places_as_the_batch_does(postgres: str, words: bool) -> None:
    draw = np.random.default_rng(11)
    model, signals = made_model(draw, words=words, levels=words), made_signals(draw, customers=300)
    con = open_engine(postgres)
    pd.testing.assert_frame_equal(in_engine(con, model, signals), in_batch(model, signals), check_dtype=False)
    con.disconnect()


def test_a_spark_cluster_places_and_writes_as_the_batch_does(spark: Spark, tmp_path: Path) -> None:
    draw = np.random.default_rng(17)
    model, signals = made_model(draw, words=True, levels=True), made_signals(draw, customers=300)
    arrays, meta = model_to_arrays(model)
    open_run(tmp_path / "run", step="03_segments").save_model(arrays, meta=meta)
    given = {name: str(tmp_path / f"{name}.parquet") for name in ("features", "weights")}
    for table, path in zip(as_tables(signals), given.values(), strict=True):
        table.to_parquet(path)
    spark.ask(place=str(tmp_path / "run"), out=str(tmp_path / "out"), **given)
    parts = sorted((tmp_path / "out").glob("part-*.parquet"))
    found = pd.concat([pd.read_parquet(part) for part in parts]).set_index("customer_id").sort_index().round(6)
    pd.testing.assert_frame_equal(found, in_batch(model, signals), check_dtype=False)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_names_its_tables_and_holds_what_it_needs(dialect: str) -> None:
    model = made_model(np.random.default_rng(5), words=True)
    text = assignment_sql(model, dialect=dialect, features="f_in", weights="w_in", categories=CATEGORIES)
    assert "f_in" in text and "w_in" in text and "segkit_loadings" in text and "segkit_in" not in text
    assert text == assignment_sql(
        model, dialect=dialect, features="f_in", weights="w_in", categories=reversed(CATEGORIES)
    )


def test_a_dialect_that_is_not_known_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="--dialect oracle: not known. Use duckdb, postgres, spark"):
        assignment_sql(made_model(np.random.default_rng(5), words=False), dialect="oracle")


def test_a_model_of_category_mix_asks_for_weights() -> None:
    con = ibis.duckdb.connect()
    features = con.create_table("f", as_tables(made_signals(np.random.default_rng(1), customers=3))[0])
    with pytest.raises(InputError, match="Give customer_id, category, weight"):
        assign_in_engine(made_model(np.random.default_rng(5), words=False), features)
