"""The data sheet says what was used, left out, kept and guessed, and holds no one."""

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pandas as pd

from segkit.customers.days import Days
from segkit.customers.profile import DATASHEET_COLUMNS, datasheet
from segkit.data.privacy import PrivacyRules
from segkit.data.spec import parse_source
from segkit.period import Period

SOURCE = """\
name: shop
timezone: Europe/Berlin  # guess: the zone
kinds: {purchase: customer, mail: company}
events:
  - {path: lines.csv, where: paid > 0, columns: {customer_id: who, timestamp: when, amount: paid}}
customers: {path: people.csv, columns: {customer_id: id, age: age, mail: mail, ok: ok},
            roles: {age: demographic, mail: identifier, ok: consent}}
"""
EVENTS = [("ann", "2024-01-02", "purchase", 3.0, None), ("bob", "2024-02-01", "mail", None, None),
          ("bob", "2024-07-01", "purchase", 9.0, None)]  # fmt: skip


def test_what_was_used_and_what_was_not(make_days: Callable[..., Days], tmp_path: Path) -> None:
    source = parse_source(SOURCE, label="shop.yaml", base=tmp_path)
    days = make_days(EVENTS, kinds=source.kinds)
    aside = pd.DataFrame({"table": ["lines.csv"], "reason": ["no customer"], "rows": [1234], "share": [0.01]})
    asked = {"period": Period(date(2024, 6, 1), lookback_days=100, horizon_days=50)}
    table = datasheet(source, days, rejected=aside, **asked)
    assert table.columns.tolist() == DATASHEET_COLUMNS and table.map(lambda cell: isinstance(cell, str)).all().all()
    said = {(row.about, row.item): row.value for row in table.itertuples()}
    assert said["period", "days used"] == "2024-01-02 to 2024-02-01", "nothing on or after as_of"
    assert said["events", "used"] == "1 mail (by the company), 1 purchase (by the customer)"
    assert said["events", "lines.csv"] == "customer_id (who), timestamp (when), amount (paid)"
    assert said["left out", "lines.csv: no customer"] == "1,234 rows"
    assert said["consent", "columns"] == "ok" and said["ids", "customers are told by"] == "the ids of the source"
    assert said["customers", "mail"] == "identifier"
    assert said["guess", "timezone: Europe/Berlin"] == "of the draft"
    assert not {"ann", "bob"} & {word for cell in table.to_numpy().ravel() for word in cell.split()}
    veil = PrivacyRules(lists=(("key", frozenset({"mark"})),))
    table = datasheet(source.model_copy(update={"privacy": veil}), days, rejected=aside[:0], pseudonyms=True, **asked)
    said = {(row.about, row.item): row.value for row in table.itertuples()}
    assert said["left out", "the forgotten"] == "<20" and said["ids", "customers are told by"] == "hashes"
