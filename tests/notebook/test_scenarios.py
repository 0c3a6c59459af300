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
DAILY = ("media", "one_time")
CUSTOMERS = {"one_time": 1500}
MONEY = r"\b(spend(ing)?|spent|revenue|price|margin|per cent of spend)\b"
STAGES = r"\b(lapsing|cooling|gone quiet|clearly falling)\b"
ABSENT = {"media": MONEY, "one_time": STAGES}  # on the overview
LEAST_AGREEMENT = {"media": 0.7, "one_time": 0.75, "clickstream": 0.6, "subscription": 0.7, "marketplace": 0.7}


@pytest.mark.parametrize(
    "scenario", [pytest.param(s, marks=[] if s in DAILY else pytest.mark.slow) for s in SCENARIOS[2:]]
)
def test_it_goes_through_the_whole_chain(scenario: str, tmp_path: Path) -> None:
    source = write_scenario(scenario, customers=CUSTOMERS.get(scenario, 400), out=str(tmp_path / "company"))
    run = load_run(run_chain(source=source, out=tmp_path / "out").parent)
    assert run.record()["outcome"] == "done"
    assert not re.findall(ABSENT.get(scenario, "(?!)"), _text(run.path / "index.html"), re.IGNORECASE)
    if scenario == "no_structure":
        assert run.summary()["segments.verdict"] == "none"
        assert "no segments that hold" in _text(run.path / "index.html")
    else:
        assert _agreement_with_truth(run, tmp_path / "company") > LEAST_AGREEMENT[scenario]


def test_the_command_offers_every_scenario() -> None:
    assert tuple(OFFERED.split()) == SCENARIOS


def _text(page: Path) -> str:
    html = re.sub(r"<(script|style|svg)\b.*?</\1>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return unescape(re.sub(r"<[^>]+>", " ", html))


def _agreement_with_truth(run: Run, company: Path) -> float:
    """Compare the needs of the segments that have one with those that were planted."""
    truth = pd.read_parquet(company / "truth.parquet").set_index("customer_id")["need"]
    segment = run.table("assignments").set_index("customer_id")["segment"]
    need = segment.map(run.table("segments").set_index("segment")["need"]).dropna()
    return float(adjusted_rand_score(truth[need.index], need))
