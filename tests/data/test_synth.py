"""Made-up customers: needs are in what they do, not in who they are; the same seed gives the same bytes."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from segkit.data.check import check_source
from segkit.data.sources import connect, open_source, read_customers, read_events
from segkit.data.synth import CAMPAIGN_DAY, CAMPAIGN_DAYS, START, write_scenario
from segkit.errors import InputError


@pytest.fixture(scope="module", params=["retail", "saas"])
def company(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a made-up company with 600 customers."""
    out = tmp_path_factory.mktemp(request.param)
    write_scenario(request.param, customers=600, out=str(out), seed=3)
    return out


def test_it_is_a_source_that_carries_a_segmentation(company):
    assert check_source(str(company / "source.yaml")).status == 0


def test_needs_can_be_recovered_from_categories(company):
    truth = pd.read_parquet(company / "truth.parquet").set_index("customer_id")
    events = pd.read_parquet(company / "events.parquet").dropna(subset=["item"])
    shares = pd.crosstab(events["customer"], events["category"], normalize="index")
    needs = truth.loc[shares.index, "need"]
    found = KMeans(needs.nunique(), n_init=20, random_state=0).fit_predict(np.sqrt(shares))
    assert adjusted_rand_score(needs, found) > 0.9


def test_profiles_do_not_reveal_needs(company):
    source = open_source(str(company / "source.yaml"))
    people = read_customers(source, con=connect()).execute().set_index("customer_id")
    needs = pd.read_parquet(company / "truth.parquet").set_index("customer_id").loc[people.index, "need"]
    for column in people:
        assert normalized_mutual_info_score(needs, people[column].astype(str)) < 0.06


def test_the_campaign_lifts_visits_as_in_the_truth(tmp_path):
    write_scenario("retail", customers=3000, out=str(tmp_path), seed=5)
    truth = pd.read_parquet(tmp_path / "truth.parquet").set_index("customer_id")
    events = pd.read_parquet(tmp_path / "events.parquet", columns=["customer", "at", "order", "event"])
    start = pd.Timestamp(START) + pd.Timedelta(days=CAMPAIGN_DAY)
    during = events[
        (events["event"] == "purchase") & events["at"].between(start, start + pd.Timedelta(days=CAMPAIGN_DAYS))
    ]
    visits = during.groupby("customer")["order"].nunique().reindex(truth.index, fill_value=0)
    usual = truth["visits_30_days"] / 30 * CAMPAIGN_DAYS
    treated = (truth["lifecycle"] == "steady") & truth["treated"] & (truth["lift"] > 0)
    assert visits[treated].sum() / usual[treated].sum() > 1.15
    assert visits[treated].sum() / (usual * (1 + truth["lift"]))[treated].sum() == pytest.approx(1, abs=0.05)
    untreated = (truth["lifecycle"] == "steady") & ~truth["treated"]
    assert visits[untreated].sum() / usual[untreated].sum() == pytest.approx(1, abs=0.05)
    assert set(events.loc[events["event"] == "email_sent", "customer"]) == set(truth.index[truth["treated"]])


def test_feedback_is_read_as_text(company):
    events = read_events(open_source(str(company / "source.yaml")), con=connect())
    texts = events.filter(events.event == "feedback").text.execute()
    assert len(texts) > 300 and texts.notna().all() and texts.nunique() > 50


def test_same_seed_same_bytes_and_another_seed_others(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_scenario("saas", customers=30, out=str(tmp_path / name), seed=seed)
    files = ("events.parquet", "customers.csv", "truth.parquet", "source.yaml")
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)
    assert (tmp_path / "a" / files[0]).read_bytes() != (tmp_path / "c" / files[0]).read_bytes()


def test_unknown_scenario_and_too_few_customers(tmp_path):
    with pytest.raises(InputError, match="scenario 'shop' is unknown. Use one of: retail, saas"):
        write_scenario("shop", customers=100, out=str(tmp_path))
    with pytest.raises(InputError, match="--customers 5: retail has 14 needs"):
        write_scenario("retail", customers=5, out=str(tmp_path))


def test_files_that_are_not_made_up_are_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "customers.csv").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="customers.csv would be overwritten"):
        write_scenario("retail", customers=20, out=str(tmp_path))
    assert [path.read_text(encoding="utf-8") for path in tmp_path.iterdir()] == ["mine"]
    again = [write_scenario("retail", customers=20, out=str(tmp_path / "new"), seed=seed) for seed in (1, 2)]
    assert again[0] == again[1]
