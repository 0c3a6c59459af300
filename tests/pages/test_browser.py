"""Pages in a real browser: nothing leaves the machine, nothing is wider than the screen, light and dark differ."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest

from segkit.pages import cards, html, plots
from segkit.pages.render import render_notebook
from segkit.pages.segment_table import segment_table_html

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
QUIET = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
WIDTHS = (390, 1280)  # a telephone, a desk
pytestmark = [
    pytest.mark.skipif(
        CHROMIUM is None and os.environ.get("CI") != "true",
        reason="no Chromium on this machine: apt-get install chromium",
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of nbconvert
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    assert CHROMIUM, "CI needs a Chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def page_file(segments: pd.DataFrame, assignments: pd.DataFrame, tmp_path: Path) -> Path:
    shown = [
        segment_table_html(segments, caption="Segments"),
        cards.persona_cards_html(segments[["segment", "name", "need"]]),
        html.tiles_html([("Customers", 12, "active"), ("Revenue", "2.0 k")]),
        html.figure_html(plots.segment_map(assignments, segments), alt="A map"),
        html.table_html(segments[["segment", "name", "verdict", "customers", "revenue"]]),
    ]
    output = [nbformat.v4.new_output("display_data", {"text/html": str(one)}) for one in shown]
    cells = [nbformat.v4.new_markdown_cell("# Title"), nbformat.v4.new_code_cell("", outputs=output)]
    links = [{"href": f"{number}.html", "label": f"Page {number}", "current": number == 1} for number in range(8)]
    text = render_notebook(nbformat.v4.new_notebook(cells=cells), title="Title", links=links, foot="Source s")
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    return tmp_path / "page.html"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_the_screen_and_asks_for_nothing(browser: Any, page_file: Path, width: int, scheme: str) -> None:
    asked: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: asked.append(message.text))
    page.goto(page_file.as_uri())
    assert [url for url in asked if not url.startswith("data:")] == [page_file.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0 && image.alt)")
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") is (scheme == "light")
    page.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_every_page_of_a_run_opens_with_the_network_off(browser: Any, whole_run: Path, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, offline=True)
    said: list[str] = []
    context.on("request", lambda request: said.append(request.url))
    context.on("console", lambda message: said.append(message.text))
    context.on("weberror", lambda error: said.append(str(error.error)))
    context.route(re.compile("^(http|ws)"), lambda route: route.abort())
    files = sorted(whole_run.glob("*.html"))
    assert len(files) >= 5
    for file in files:
        said.clear()
        page = context.new_page()
        page.goto(file.as_uri())
        assert [one for one in said if not one.startswith("data:")] == [file.as_uri()]
        assert page.evaluate("document.documentElement.scrollWidth") == width, f"{file.name} is wider than the screen"
        assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0 && image.alt.trim())")
        assert page.locator("h1").count() == 1 and page.title().strip()
        page.close()
    context.close()


def test_links_lead_from_page_to_page(browser: Any, whole_run: Path) -> None:
    page = browser.new_page()
    page.goto((whole_run / "index.html").as_uri())
    names = page.eval_on_selector_all("nav a", "links => links.map(link => link.getAttribute('href'))")
    assert set(names) == {file.name for file in whole_run.glob("*.html")}
    for name in names:
        page.click(f"nav a[href='{name}']")
        assert page.url == (whole_run / name).as_uri()
    page.close()
