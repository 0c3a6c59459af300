"""What is never offered, from the lexicon, the source and the decisions of people."""

from pathlib import Path

import pandas as pd
import pytest

from segkit.data.check import check_source
from segkit.data.runs import open_run
from segkit.personas.never_offer import describe_never_offer, flag_all_things, names_not_to_send, never_offered
from segkit.segments.lineage import read_overrides

GROCERY = ["BEERS/ALES", "CIGARETTES", "TOBACCO OTHER", "BREAD", "CANDY - PACKAGED", "FRZN PIZZA", "MILK", "DIAPERS"]


def flagged(*asked: str, **options: object) -> list[str]:
    """List what the requests add to the goods of the lexicon."""
    usual = flag_all_things(GROCERY).table.query("never_offer")["thing"]
    assert usual.tolist() == ["BEERS/ALES", "CIGARETTES", "TOBACCO OTHER"]
    table = flag_all_things(GROCERY, asked=asked, **options).table
    return [thing for thing in table.query("never_offer")["thing"] if thing not in set(usual)]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("candy - packaged", ["CANDY - PACKAGED"]),
        ("Frozen Pizza", ["FRZN PIZZA"]),
        ("Sweet things", ["CANDY - PACKAGED", "FRZN PIZZA"]),
        ("N02", ["CANDY - PACKAGED", "FRZN PIZZA"]),
        ("baby care", ["DIAPERS"]),
        ("pizzas", ["FRZN PIZZA"]),
        ("cigarette", []),
        ("22", []),
    ],
)
def test_a_request_names_a_thing_its_label_a_need_or_a_word(asked: str, expected: list[str]) -> None:
    needs = dict.fromkeys(["CANDY - PACKAGED", "FRZN PIZZA"], ("N02", "Sweet things"))
    assert flagged(asked, labels={"FRZN PIZZA": "frozen pizza"}, needs=needs) == expected
    table = flag_all_things(GROCERY, needs=needs).table.set_index("thing")
    assert table["need"].dropna().eq("N02").sum() == 2 and table.index.is_monotonic_increasing


def test_what_matches_nothing_is_listed_and_odd_things_pass() -> None:
    assert flag_all_things(GROCERY, asked=["unicorns", "MILK", "22"]).unmatched == ("unicorns", "22")
    assert flag_all_things([], asked=["milk"]).sentences() == ["never_offer: 'milk' matches nothing that was bought."]
    many = [f"wine no. {number}" for number in range(501)]
    table = flag_all_things([*many, "Чай", "00412", ""]).table.set_index("thing")["never_offer"]
    assert table["wine"] and table[many].all() and not table[["Чай", "00412", "no", ""]].any(), "words of free text too"


def test_check_and_overrides_know_never_offer(tmp_path: Path) -> None:
    lines = [f"c{n % 40},2024-0{1 + n % 6}-1{n % 9},{GROCERY[n % 8]},3" for n in range(400)]
    (tmp_path / "a.csv").write_text("\n".join(["who,at,what,paid", *lines]), encoding="utf-8")
    yaml = (
        "name: a\ntimezone: UTC\nneeds: {never_offer: [Milk, Elves]}\n"
        "events: {path: a.csv, columns: {customer_id: who, timestamp: at, category: what, amount: paid}}\n"
    )
    (tmp_path / "a.yaml").write_text(yaml, encoding="utf-8")
    report = str(check_source(str(tmp_path / "a.yaml"), remarks=describe_never_offer))
    assert "never_offer: 'Elves' matches nothing" in report and "Milk" not in report
    (tmp_path / "overrides.yaml").write_text("never_offer: bread\n", encoding="utf-8")
    decided = read_overrides(tmp_path / "overrides.yaml")
    assert decided.never_offer == ("bread",) and decided.sentences() == ["bread is never offered."]
    run = open_run(tmp_path / "2025-01-01", step="01_profile")
    assert never_offered(run) == frozenset()
    run.write(flag_all_things(GROCERY, asked=decided.never_offer).table, "things")
    assert never_offered(run) == {"BEERS/ALES", "CIGARETTES", "TOBACCO OTHER", "BREAD"}
    assert isinstance(run.table("things"), pd.DataFrame)


def test_no_text_to_customers_names_what_calls_for_care(tmp_path: Path) -> None:
    run = open_run(tmp_path / "run")
    (run.path / "tables").mkdir(exist_ok=True)
    things = [("WINE", "red wine", "N01", True), ("BEER", None, "N01", True), ("CHEESE", None, "N02", False)]
    table = pd.DataFrame(things, columns=["thing", "label", "need", "never_offer"]).assign(sensitive=False)
    own = table.assign(weight=[0.4, 0.3, 1.0]).drop(columns="label")
    own = pd.concat([own, own.tail(1).assign(thing="CRISPS", need="N01", weight=0.3)])
    needs = pd.DataFrame({"need": ["N01", "N02", "N03"], "name": ["Drinks", "Dairy", "Baby care"]})
    for name, made in {"things": table, "need_things": own}.items():
        made.to_parquet(run.path / "tables" / f"{name}.parquet")
    needs.assign(sensitive=[False, False, True]).to_parquet(run.path / "tables" / "needs.parquet")
    assert names_not_to_send(run) == {"red wine", "beer", "drinks", "baby care"}
