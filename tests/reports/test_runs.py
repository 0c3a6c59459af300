"""The page of all runs: what it says of forecasts, and that it shows no small segment."""

import re
from typing import Any
from urllib.parse import unquote

import pandas as pd
import pytest

from segkit.reports.runs import runs_page

DAYS = ("2024-01-01", "2024-04-01", "2024-07-01")


def _history(**columns: Any) -> pd.DataFrame:
    table = pd.DataFrame({"as_of": DAYS, "folder": DAYS, "customers": [500, 520, 540], "segments": [12, 12, 13]})
    table = table.assign(kpi="spend", revenue=[1e5, 1.1e5, 1.2e5], orders_each=2.0, verdict=["cuts", None, "groups"])
    for name, value in {"expected": 1e5, "active_share": 0.9, "stability": 0.7}.items():
        table = table.assign(**{name: value, f"{name}_low": 0.9 * value, f"{name}_high": 1.1 * value})
    return table.assign(actual=[1.05e5, 1.3e5, None], held=[True, False, None]).assign(**columns)


def _segments() -> pd.DataFrame:
    rows = [(day, f"S0{number}", f"Name {number}", 100, 0.2) for day in DAYS for number in (1, 2)]
    rows += [(DAYS[0], "S03", "Gone", 40, 0.08), (DAYS[2], "S04", "Small", 7, None)]
    return pd.DataFrame(rows, columns=["as_of", "segment", "name", "customers", "customer_share"])


def _page(history: pd.DataFrame, segments: pd.DataFrame) -> str:
    return runs_page(history, segments, source="my_shop", currency="USD", horizon_days=[91] * len(history))


def _text(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", re.sub(r"<(style|svg).*?</\1>", "", page, flags=re.DOTALL)).split())


def test_the_page_compares_forecasts_with_actuals_and_segments_through_time() -> None:
    page = _page(_history(), _segments())
    words = _text(page)
    assert "All runs of My shop" in words and "3 runs, 1 January 2024 to 1 July 2024." in words
    assert "2 forecasts can be checked: the actual figure fell within the range in 1." in words
    latest = "April to June 2024: we expected $100,000 ($90,000 to $110,000) and customers spent $130,000, 30% more"
    assert latest in words and '<a href="./2024-07-01/index.html">1 July 2024</a>' in page
    assert (
        "S03 Gone 8% – –" in words and "S04 Small – – few" in words and " 7 " not in words.split("Segments through")[1]
    )
    assert page == _page(_history(), _segments()), "the same runs, the same bytes"


@pytest.mark.parametrize(
    ("history", "words", "absent"),
    [
        (_history().head(1), "One run so far, as of 1 January 2024. The trend starts with the next one.", "S01"),
        (_history(actual=None, held=None), "No forecast can be checked yet", "was $"),
        (_history(kpi="orders", revenue=None), "customers placed 130,000 orders", "$"),
        (
            _history(expected=None, actual=None, kpi=None),
            "3 runs, 1 January 2024 to 1 July 2024.",
            "Forecast and actual",
        ),
    ],
    ids=["one run", "nothing due", "no money", "no forecast"],
)
def test_the_page_claims_only_what_the_runs_hold(history: pd.DataFrame, words: str, absent: str) -> None:
    text = _text(_page(history, _segments()[_segments()["as_of"].isin(history["as_of"])]))
    assert words in text and absent not in text


def test_a_folder_of_any_name_is_a_link_into_that_folder() -> None:
    names = ["javascript:alert(1)", 'a"><b>#?%41', "plain"]
    links = re.findall(r'<a href="([^"]*)"', _page(_history(folder=names), _segments()))
    assert [unquote(link) for link in links[:3]] == [f"./{name}/index.html" for name in reversed(names)]
    assert not re.search(r"[\s<>#?:]", "".join(links[:3]))
