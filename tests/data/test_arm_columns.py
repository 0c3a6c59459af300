"""The table of an experiment is recognised by its arm and its outcomes, and a table of customers is none."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segkit.data.arm_columns import recognise_arms
from segkit.data.check import check_source
from segkit.data.draft import open_raw_table
from segkit.errors import SourceError

ROWS = 600
DRAW = np.random.default_rng(3)
COLUMNS = {
    "recency": DRAW.integers(1, 13, ROWS),
    "spend_before": DRAW.gamma(2, 30, ROWS).round(2),
    "visit": DRAW.integers(0, 2, ROWS),
    "bought": DRAW.choice(["yes", "no"], ROWS),
    "orders": DRAW.poisson(1, ROWS),
    "spend": DRAW.gamma(2, 10, ROWS).round(2),
}
OUTCOMES = {"visit": "binary", "bought": "binary", "orders": "count", "spend": "money"}


@pytest.mark.parametrize(
    ("name", "values", "arms"),
    [
        ("segment", ["Womens E-Mail", "No E-Mail", "Mens E-Mail"], ("No E-Mail", "Mens E-Mail", "Womens E-Mail")),
        ("test_group", ["treatment", "Control"], ("Control", "treatment")),
        ("mailing", ["voucher", "hold-out", "letter"], ("hold-out", "letter", "voucher")),
        ("treatment", [1, 0], ("0", "1")),
    ],
)
def test_arms_and_outcomes_are_found(tmp_path: Path, name: str, values: list, arms: tuple[str, ...]) -> None:
    frame = pd.DataFrame({"customer_id": range(ROWS), name: [values[n % len(values)] for n in range(ROWS)], **COLUMNS})
    path = tmp_path / "result.csv"
    frame.to_csv(path, index=False)
    found = recognise_arms(open_raw_table(path), customer="customer_id")
    assert found is not None and (found.arm, found.arms, found.outcomes) == (name, arms, OUTCOMES)
    with pytest.raises(SourceError, match=r"holds the arms .* visit \(yes or no\).*--arms result.csv.*made of events"):
        check_source(str(path))
    assert not path.with_suffix(".yaml").exists()


@pytest.mark.parametrize("column", ["newsletter", "group", "segment"])
def test_a_table_of_customers_is_no_experiment(tmp_path: Path, column: str) -> None:
    values = ["yes", "no"] if column == "newsletter" else ["A", "B", "C"]
    frame = pd.DataFrame(
        {"customer_id": range(ROWS), column: [values[n % len(values)] for n in range(ROWS)], **COLUMNS}
    )
    frame.to_csv(tmp_path / "people.csv", index=False)
    assert recognise_arms(open_raw_table(tmp_path / "people.csv"), customer="customer_id") is None
    events = pd.concat([frame.assign(group="control"), frame.assign(group="treatment")])
    events.to_csv(tmp_path / "people.csv", index=False)
    assert recognise_arms(open_raw_table(tmp_path / "people.csv"), customer="customer_id") is None, "two rows for each"
