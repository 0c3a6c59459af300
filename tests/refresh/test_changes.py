"""What changed for customers is counted by level and need, in words, and described where enough have it in common."""

import pandas as pd

from segkit.format import FLOOR
from segkit.refresh.changes import count_changes
from segkit.reports.overview import describe_customer_changes
from segkit.reports.refresh import format_customer_changes
from segkit.segments.moves import CHANGE_COLUMNS
from segkit.tables import check

ROWS = (
    [("up", "M2", "M1", None, None)] * 24
    + [("down", "M1", "M2", None, "N01")] * (FLOOR - 1)
    + [(None, None, None, "N02", "N01")] * 4
    + [(None,) * 5] * 30
)


def test_changes_are_counted_and_few_customers_are_not_described() -> None:
    moves = pd.DataFrame(ROWS, columns=CHANGE_COLUMNS)
    changes = count_changes(moves, levels={"M1": "Top", "M2": "Core"}, needs={"N01": "Baby care", "N02": "TV"})
    check(changes, name="customer_changes")
    assert dict(zip(changes["words"], changes["customers"], strict=True)) == {
        "moved up from Core to Top": 24,
        "moved down from Top to Core": FLOOR - 1,
        "changed what they mainly come for": FLOOR + 3,
        "turned to baby care": FLOOR + 3,
        "no longer come mainly for TV": 4,
    }
    assert format_customer_changes(changes)["words"].tolist() == [
        "Moved up from Core to Top",
        "Changed what they mainly come for",
        "Turned to baby care",
    ]
    sentence = "24 customers moved up a level, 23 changed what they mainly come for, and 23 turned to baby care."
    assert [one.replace("\u2009", "") for one in describe_customer_changes(changes)] == [sentence]
    assert not describe_customer_changes(changes.iloc[1:2]) and not describe_customer_changes(None)
