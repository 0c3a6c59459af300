"""Made-up companies of every kind go through the whole chain, and their pages say nothing of what is not there."""

import re
from html import unescape
from pathlib import Path

import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

from segkit.cli import SCENARIOS as OFFERED
from segkit.data.runs import Run, load_run
from segkit.data.synth import SCENARIOS, write_scenario
from segkit.notebook.chain import run_chain

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the notebook machinery
DAILY = ("media",)
CUSTOMERS = {"one_time": 1500, "no_structure": 1500}
MONEY = r"(spend(ing)?|spent|revenue|prices?|margin)"
BUYING = r"(buy|buys|bought|buyers?|purchases?|orders?|shop|shopping|basket)"
STAGES = r"(lapsing|lapsed|cooling|gone quiet|been a while|missed you|been quiet|regular here|so often)"
CONTINUUM = r"(ideas to test|do similar things next|cut between them|usual basket)"
ABSENT = {  # words that stand on no page, as there is nothing of the kind
    "media": f"{MONEY}|{BUYING}",
    "one_time": STAGES,
    "no_structure": CONTINUUM,
    "clickstream": r"weekly shop|buyers",
    "subscription": r"weekly shop|next order",
    "marketplace": r"weekly shop|our things like",
    "customers_only": r"weekly shop|next order|opportunit(y|ies)|revenue|need(s)? of",
}
MISSING = re.compile(r"\bnan\b|\bNone\b")  # what no page shows
NOT_THERE = re.compile(  # where pages may speak of what is missing: what it would add, and what was compared with
    r"No amount: it would add[^\n]*|Available data.*?For analysts|Right order|in any order\.", re.DOTALL
)
LEAST_AGREEMENT = {
    **{"media": 0.7, "one_time": 0.75, "clickstream": 0.6, "subscription": 0.7, "marketplace": 0.7},
    "customers_only": 0.85,
}


@pytest.mark.parametrize(
    "scenario", [pytest.param(s, marks=[] if s in DAILY else pytest.mark.slow) for s in SCENARIOS[2:]]
)
def test_it_goes_through_the_whole_chain(scenario: str, tmp_path: Path) -> None:
    source = write_scenario(scenario, customers=CUSTOMERS.get(scenario, 400), out=str(tmp_path / "company"))
    run = load_run(run_chain(source=source, out=tmp_path / "out").parent)
    assert run.record()["outcome"] == "done"
    _refuse_untrue_words(run, scenario)
    if scenario == "no_structure":
        assert run.summary()["segments.verdict"] == "none"
        assert "no segments that hold" in _text(run.path / "index.html")
        assert set(run.table("segments")["verdict"]) == {"level only"} and run.table("actions").empty
        assert (run.table("personas")["come_for"] == "").all() and run.summary()["segments.tried"] > 4
    else:
        assert _agreement_with_truth(run, tmp_path / "company") > LEAST_AGREEMENT[scenario]


@pytest.mark.slow
def test_a_table_of_customers_whose_columns_do_not_go_together_ends_in_the_verdict_none(tmp_path: Path) -> None:
    source = write_scenario("customers_only", customers=400, out=str(tmp_path / "company"))
    people = pd.read_csv(tmp_path / "company" / "customers.csv")
    shuffled = people.assign(
        **{name: people[name].sample(frac=1, random_state=n).to_numpy() for n, name in enumerate(people)}
    )
    shuffled.to_csv(tmp_path / "company" / "customers.csv", index=False)
    run = load_run(run_chain(source=source, out=tmp_path / "out").parent)
    assert run.record()["outcome"] == "done" and run.summary()["segments.verdict"] == "none"
    assert run.summary()["segments.count"] == 0 and set(run.table("assignments")["segment"]) == {"S01"}
    text = _text(run.path / "index.html")
    assert "There are no segments that hold" in text and "Who they are" not in text and not MISSING.findall(text)


def test_the_command_offers_every_scenario() -> None:
    assert tuple(OFFERED.split()) == SCENARIOS


def _refuse_untrue_words(run: Run, scenario: str) -> None:
    absent = re.compile(rf"\b({ABSENT[scenario]})\b", re.IGNORECASE)
    for page in sorted(run.path.glob("*.html")):
        text = _text(page)
        assert not MISSING.findall(text), page.name
        spoken = NOT_THERE.sub("", text)
        found = [spoken[max(one.start() - 60, 0) : one.end() + 40] for one in absent.finditer(spoken)]
        assert not found, f"{page.name}: {found[:5]}"


def _text(page: Path) -> str:
    html = re.sub(r"<(script|style|svg)\b.*?</\1>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return unescape(re.sub(r"<[^>]+>", " ", html))


def _agreement_with_truth(run: Run, company: Path) -> float:
    """Compare the needs of the segments that have one, or the segments, with what was planted."""
    truth = pd.read_parquet(company / "truth.parquet").set_index("customer_id")
    segment = run.table("assignments").set_index("customer_id")["segment"]
    if "group" in truth:
        return float(adjusted_rand_score(truth["group"][segment.index], segment))
    need = segment.map(run.table("segments").set_index("segment")["need"]).dropna()
    return float(adjusted_rand_score(truth["need"][need.index], need))
