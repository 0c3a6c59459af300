"""A real shop with free-text products: every customer active in the lookback gets a segment."""

from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from segkit.cli import main
from segkit.data.paths import HOME
from segkit.data.runs import load_run

TABLE = HOME.parent / "shared" / "data" / "online_retail.parquet"
AS_OF, LOOKBACK_DAYS = pd.Timestamp("2011-10-01"), 190

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not TABLE.is_file(), reason=f"{TABLE.name} is not in the folder shared/data next to the repository"
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of the notebook machinery
]


def test_every_customer_active_in_the_lookback_is_assigned(tmp_path: Path) -> None:
    given = ["--source", str(HOME / "notebooks" / "sources" / "online_retail.yaml"), "--data", str(TABLE.parent)]
    given += [
        "--as-of",
        "2011-10-01",
        "--lookback-days",
        str(LOOKBACK_DAYS),
        "--horizon-days",
        "70",
        "--steps",
        "01-03",
    ]
    answer = CliRunner().invoke(main, ["run", *given, "--out", str(tmp_path / "run")])
    assert answer.exit_code == 0, answer.output
    lines = pd.read_parquet(TABLE, columns=["CustomerID", "InvoiceDate"]).dropna(subset="CustomerID")
    at = pd.to_datetime(lines["InvoiceDate"])
    recent = lines[(at < AS_OF) & (at >= AS_OF - pd.Timedelta(days=LOOKBACK_DAYS))]
    expected = {str(one).removesuffix(".0") for one in recent["CustomerID"].unique()}
    run = load_run(tmp_path / "run")
    assignments, segments = run.table("assignments"), run.table("segments")
    assert assignments["customer_id"].is_unique and set(assignments["customer_id"]) == expected
    assert 12 <= len(segments) <= 20 and segments["customers"].min() >= 0.01 * len(assignments)
    summary = run.summary()
    assert summary["forward.reason"] is not None or summary["forward.spend_r2"] > 0
