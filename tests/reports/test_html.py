"""What notebooks show: escaped, with scope headers, numbers right and rounded, unknown as a dash."""

import datetime
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from segkit import format as fmt
from segkit.errors import InputError
from segkit.reports import html
from segkit.reports import personas as personas_report
from segkit.reports.html import segment_table_html
from tests.reports.card_texts import card_texts


def test_table_is_escaped_rounded_and_headed() -> None:
    table = pd.DataFrame(
        {
            "name": ["<script>", None],
            "share": [0.413, np.nan],
            "rows": [1469307, 3],
            "day": [datetime.date(2024, 1, 2), None],
            "known": [True, False],
        }
    )
    made = html.table_html(
        table,
        caption="A & B",
        columns={"name": "Name", "share": "Share", "rows": "Rows", "day": "Day", "known": "Known"},
        formats={"share": "share"},
    )
    cells = [re.sub(r"<.*?>", "", cell) for cell in re.findall(r"<t[dh].*?>(.*?)</t[dh]>", made)]
    assert cells == [
        *("Name", "Share", "Rows", "Day", "Known"),
        *("&lt;script&gt;", "41%", "1,469,307", "2024-01-02", "yes"),
        *("–", "–", "3", "–", "no"),
    ]
    assert made.count('scope="col"') == 5 and made.count('scope="row"') == 2 and "A &amp; B" in made
    assert re.findall(r'<th scope="col" class="sk-number">(\w+)', made) == ["Share", "Rows"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"columns": {"nmae": "Name"}}, r"no columns \['nmae'\]. There are \['name'\]"),
        ({"formats": {"name": "percent"}}, "no format 'percent'. There are share, number, count, score"),
    ],
)
def test_table_refuses_what_it_does_not_know(options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        html.table_html(pd.DataFrame({"name": ["a"]}), **options)


def test_figure_needs_words_for_those_who_cannot_see_it() -> None:
    with pytest.raises(InputError, match="alt text is empty"):
        html.figure_html(Figure(), alt=" ")
    made = html.figure_html(Figure(figsize=(1, 1)), alt='a "map"', caption="<see>")
    assert (
        'role="img" tabindex="0" aria-label="a &#34;map&#34;"' in made
        and "<figcaption>&lt;see&gt;</figcaption>" in made
    )


def test_segment_table_orders_by_revenue_and_leaves_out_unknown_columns(segments: pd.DataFrame) -> None:
    made = segment_table_html(segments.assign(spend_change=1.0))
    assert "↗" not in segment_table_html(segments), "where the usual change is not known, none is beyond it"
    assert re.findall(r"sk-id\">(S\d\d)", made) == ["S02", "S01", "S13"]
    assert "Margin" not in made and "Big &lt;b&gt;baskets&lt;/b&gt;" in made
    assert ("↗" in made, "↘" in made) == (True, True)
    assert "Margin" in segment_table_html(segments.assign(margin=[1.0, np.nan, 2.0]))
    silent = segments.assign(revenue=np.nan, revenue_share=np.nan, spend_next=np.nan, spend_now=np.nan)
    assert "revenue" not in segment_table_html(silent).lower()
    assert "Likely to come back" in segment_table_html(silent)  # stands in for spend
    assert "Likely to come back" not in made and "What to do" in made
    assert "What to do" not in segment_table_html(segments.assign(action=None))


def test_persona_card_shows_what_is_known_and_nothing_else(segments: pd.DataFrame) -> None:
    personas = segments[["segment", "name", "need_name"]].assign(size="They come <early>.", do="", caution=None)
    copy = pd.DataFrame({"segment": "S01", "slot": ["push"], "text": ["Come <b>now"], "why": ["it shouts"]})
    made = personas_report.persona_cards_html(personas, copy=copy)
    assert made.count("<article") == 3 and made.count("<details") == 1, "only the first has more"
    assert "They come &lt;early&gt;." in made and "Come &lt;b&gt;now" in made and "(template: it shouts)" in made
    assert ">Do<" not in made and "Careful" not in made and "sk-index" not in made
    read = card_texts(str(made)).set_index("segment")
    assert read.loc["S01", "size"] == "They come <early>." and read.loc["S01", "copy_push"] == "Come <b>now"
    assert read.loc["S02", "name"] == "Big <b>baskets</b>" and read.loc["S13", "size"] == "They come <early>."
    four = pd.concat([personas, personas.head(1).assign(segment="S14")])
    assert personas_report.persona_cards_html(four).count("<li><svg") == 4, "a list of cards where there are many"


@given(
    st.floats(-1e15, 1e15)
    | st.sampled_from([float("nan"), float("inf"), -0.0])
    | st.none()
    | st.integers(-(10**12), 10**12)
)
def test_numbers_for_people_never_fail_and_never_show_minus_zero(value: float | None) -> None:
    for form in (fmt.share, fmt.number, fmt.count, fmt.score):
        text = form(value)
        assert text and "nan" not in text and "inf" not in text
        assert not re.fullmatch(r"−0[.0]*(%)?", text)
