"""Pages in a real browser: nothing leaves the machine, nothing is wider than the screen, and hands and keyboard act."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest

from segkit.notebook.pages import render_notebook
from segkit.reports import html
from segkit.reports import personas as personas_report
from segkit.reports import segments as segments_report
from segkit.reports.html import segment_table_html
from segkit.reports.map import map_html, map_profile
from segkit.reports.matrix import matrix_html

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
QUIET = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
WIDTHS = (390, 1280)  # a telephone, a desk
SCHEMES = ("light", "dark")
MEGABYTE = 2**20
SERIOUS = ("serious", "critical")  # of what axe finds
EVIL = {  # names as data may hold them
    "S01": "</script><script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">",
    "S02": "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft" * 2,
    "S13": "לקוחות נאמנים 🎉🍷 عملاء",
}
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
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """A function that opens a file with the network off, and fails the test where the page asks or complains."""
    contexts, text_found = [], []

    def opened(file: Path, *, width: int = 1280, scheme: str = "light") -> Any:
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
        contexts.append(context)
        context.on("request", lambda request: text_found.append(request.url))
        context.on("console", lambda message: text_found.append(message.text))
        context.on("weberror", lambda error: text_found.append(str(error.error)))
        context.route(re.compile("^(http|ws)"), lambda route: route.abort())
        page = context.new_page()
        page.goto(file.as_uri())
        if page.locator("figure.sk-map").count():
            page.wait_for_selector("figure.sk-map[data-ready]")
        return page

    yield opened
    opened_files = [one for one in text_found if not one.startswith(("data:", "file:"))]
    for context in contexts:
        context.close()
    assert opened_files == []


@pytest.fixture
def crowd(segments: pd.DataFrame) -> pd.DataFrame:
    """Three segments of eighty customers, each in its own corner of the plane."""
    corner = {"S01": (0.0, 0.0), "S02": (10.0, 0.0), "S13": (5.0, 8.0)}
    of = np.repeat(list(corner), 80)
    spread = np.random.default_rng(5).normal(size=(240, 2)) * 0.4
    plane = np.array([corner[one] for one in of]) + spread
    ids = [f"c{number:02d}" for number in range(240)]
    held = {"customer_id": ids, "segment": of, "macro_segment": "All", "confidence": 0.9, "core": True}
    return pd.DataFrame({**held, "x": plane[:, 0], "y": plane[:, 1]})


@pytest.fixture
def page_file(segments: pd.DataFrame, crowd: pd.DataFrame, tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a page with one of everything; names replace those of the segments."""

    def write(names: dict[str, str] | None = None) -> Path:
        named = segments.assign(name=segments["segment"].map(names)) if names else segments
        named = named.assign(need_name=named["name"], action=named["name"]) if names else named
        features = pd.DataFrame({"customer_id": crowd["customer_id"], "spend": np.repeat([10.0, 200.0, 3000.0], 80)})
        columns = ["segment", "name", "verdict", "customers", "revenue"]
        values = {"value": [12.0, 5.0, 3.04], "others": 6.0, "effect": [1.0, 0.1, -1.0]}
        signals = pd.DataFrame({"segment": ["S01", "S02", "S13"], "feature": "orders", "words": "orders", **values})
        signals["unit"] = "orders"
        shown = [
            html.tiles_html([("Customers", 12, "active"), ("Revenue", "2.0 k")]),
            matrix_html(named, currency="EUR", cards="#"),
            map_html(crowd, named, profile=map_profile(crowd, features), alt="A map", caption="See."),
            segment_table_html(named, caption="Segments", signals=signals),
            personas_report.persona_cards_html(named[["segment", "name", "need_name"]]),
            html.figure_html(segments_report.plot_segment_shares(named), alt="Bars"),
            html.table_html(named[columns], caption="A table"),
        ]
        output = [nbformat.v4.new_output("display_data", {"text/html": str(one)}) for one in shown]
        heads = [nbformat.v4.new_markdown_cell(f"## Part {number}") for number in range(3)]
        cells = [nbformat.v4.new_markdown_cell("# Title"), nbformat.v4.new_code_cell("", outputs=output), *heads]
        links = [{"href": f"{number}.html", "label": f"Page {number}", "current": number == 1} for number in range(8)]
        text = render_notebook(nbformat.v4.new_notebook(cells=cells), title="Title", links=links, foot="Source s")
        (tmp_path / "page.html").write_text(text, encoding="utf-8")
        return tmp_path / "page.html"

    return write


def violations(page: Any) -> list[str]:
    """What axe finds that keeps people out, in words."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found if one["impact"] in SERIOUS]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_page_fits_the_screen_and_lets_everyone_in(
    open_page: Callable[..., Any], page_file: Callable[..., Path], width: int, scheme: str
) -> None:
    page = open_page(page_file(), width=width, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") is (scheme == "light")
    ink = page.evaluate("getComputedStyle(document.querySelector('.sk-drawing text')).fill")
    assert (ink == "rgb(154, 167, 180)") is (scheme == "dark"), "the text of a figure follows the paper"
    assert violations(page) == []


@pytest.mark.parametrize("width", WIDTHS)
def test_names_of_any_kind_stay_names(
    open_page: Callable[..., Any], page_file: Callable[..., Path], width: int
) -> None:
    page = open_page(page_file(EVIL), width=width)
    assert page.title() == "Title" and page.locator("main img").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator(".sk-map-keys button").all_inner_texts() == [
        f"{EVIL[one]} {one}" for one in ("S02", "S01", "S13")
    ]
    assert violations(page) == []


def test_map_shows_the_chosen_segment(open_page: Callable[..., Any], page_file: Callable[..., Path]) -> None:
    page = open_page(page_file())
    live = page.locator(".sk-map-live").bounding_box()
    assert not page.locator(".sk-map-still").is_visible() and page.locator(".sk-map-hint").is_visible()
    page.get_by_role("button", name="Fading").click()
    assert page.locator(".sk-map-card:visible").get_attribute("data-segment") == "S13"
    assert page.locator(".sk-map-keys [aria-pressed=true]").count() == 1
    page.keyboard.press("Escape")
    assert page.locator(".sk-map-card:visible").count() == 0
    page.mouse.click(live["x"] + 0.5 * live["width"], live["y"] + 0.09 * live["height"])  # the corner of S13 is on top
    page.wait_for_selector(".sk-map-card[data-segment=S13]:visible")
    page.locator(".sk-map-label[data-segment=S02]").click()
    assert page.locator(".sk-map-card:visible").get_attribute("data-segment") == "S02"


def test_circled_customers_are_reported_by_means(open_page: Callable[..., Any], page_file: Callable[..., Path]) -> None:
    page = open_page(page_file())
    live = page.locator(".sk-map-live").bounding_box()

    def circle(*corners: tuple[float, float]) -> None:
        places = [(live["x"] + x * live["width"], live["y"] + y * live["height"]) for x, y in corners]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place, steps=5)
        page.mouse.up()

    circle((0.3, 0.01), (0.7, 0.01), (0.7, 0.4), (0.3, 0.4), (0.3, 0.01))
    page.wait_for_selector(".sk-map-circle:visible")
    assert "80 customers circled" in page.locator(".sk-map-count").inner_text()
    assert page.locator(".sk-map-in").inner_text().strip() == "Fading S13: 100%"
    cells = page.locator(".sk-map-profile tbody tr").first.locator("th, td").all_inner_texts()
    assert cells[0] == "spend so far, each" and cells[2] == "1,070" and float(cells[1].replace(",", "")) > 2000
    page.get_by_role("button", name="Show all").click()
    page.wait_for_selector(".sk-map-hint:visible")
    page.get_by_role("button", name="Circle customers").click()
    circle((0.3, 0.01), (0.7, 0.01), (0.7, 0.4), (0.3, 0.4), (0.3, 0.01))
    assert page.locator(".sk-map-circle:visible").count() == 0, "nothing is circled when circling is off"


def test_table_sorts_both_ways_and_states_so(open_page: Callable[..., Any], page_file: Callable[..., Path]) -> None:
    page = open_page(page_file())
    table = page.locator(".sk-sort table")

    def order() -> list[str]:
        return table.locator("tbody .sk-id").all_inner_texts()

    assert order() == ["S02", "S01", "S13"]
    heading = table.get_by_role("button", name="Stability")
    for sort, expected in (("descending", ["S01", "S02", "S13"]), ("ascending", ["S02", "S01", "S13"])):
        heading.click()
        assert order() == expected, "what is not known stays last"
        assert table.locator(f"th[aria-sort={sort}]").inner_text().startswith("Stability")
    table.get_by_role("button", name="Segment").press("Enter")
    assert order() == ["S02", "S13", "S01"] and table.locator("th[aria-sort]").count() == 1


def test_segments_are_filtered_and_compared(
    open_page: Callable[..., Any], page_file: Callable[..., Path], segments: pd.DataFrame
) -> None:
    page = open_page(page_file())
    rows = page.locator(".sk-segments .sk-sort tbody tr:visible")
    page.get_by_label("Filter").fill("fading")
    assert rows.count() == 1 and page.get_by_text("1 of 3 segments").is_visible()
    page.get_by_label("Filter").fill("")
    assert rows.count() == 3 and not page.locator(".sk-compare").is_visible()
    page.locator(".sk-tools select").first.select_option("S01")
    page.locator(".sk-tools select").last.select_option("S13")
    assert page.url.endswith("#S01-S13")
    shown = page.locator(".sk-compare").inner_text()
    assert all(name in shown for name in segments.set_index("segment").loc[["S01", "S13"], "name"])
    assert "Orders" in shown and "12" in shown and "3.0" in shown, "the feature in which they differ"
    page.goto(page.url.replace("S01-S13", "S02-S01"))
    page.wait_for_function("document.querySelector('.sk-compare th .sk-id').textContent === 'S02'")
    assert violations(page) == []


def test_keyboard_reaches_everything(open_page: Callable[..., Any], page_file: Callable[..., Path]) -> None:
    page = open_page(page_file())
    reachable = page.locator("a:visible, button:visible, input:visible, select:visible").count()
    focused = "(all => all.indexOf(document.activeElement))([...document.querySelectorAll('a, button, input, select')])"
    seen = set()
    for _ in range(reachable + 20):
        page.keyboard.press("Tab")
        seen.add(page.evaluate(focused))
    assert len(seen - {-1}) == reachable
    page.locator(".sk-map-keys button").first.press("Space")
    assert page.locator(".sk-map-card:visible").count() == 1


def test_print_and_mail_have_a_still_map(open_page: Callable[..., Any], page_file: Callable[..., Path]) -> None:
    page = open_page(page_file(), scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.locator(".sk-map-still").is_visible() and not page.locator(".sk-map-live").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.querySelector('.sk-drawing text')).fill") != "rgb(154, 167, 180)"


@pytest.mark.parametrize("width", WIDTHS)
def test_names_on_the_map_never_overlap(
    open_page: Callable[..., Any], segments: pd.DataFrame, tmp_path: Path, width: int
) -> None:
    rng, ids = np.random.default_rng(3), [f"S{number:02d}" for number in range(1, 21)]
    names = [f"Strong: hearty home cooking {number}" for number in range(20)]
    many = pd.concat([segments.iloc[[0]]] * 20, ignore_index=True).assign(segment=ids, name=names)
    plane = np.repeat(rng.normal(size=(20, 2)), 30, axis=0) + 0.1 * rng.normal(size=(600, 2))
    held = {"customer_id": [f"c{number}" for number in range(600)], "segment": np.repeat(ids, 30), "confidence": 0.9}
    crowded = pd.DataFrame({**held, "macro_segment": "All", "core": True, "x": plane[:, 0], "y": plane[:, 1]})
    output = nbformat.v4.new_output(
        "display_data", {"text/html": str(map_html(crowded, many, alt="Map", caption="See."))}
    )
    cells = [nbformat.v4.new_markdown_cell("# Title"), nbformat.v4.new_code_cell("", outputs=[output])]
    text = render_notebook(nbformat.v4.new_notebook(cells=cells), title="Title", links=[], foot="Source s")
    (tmp_path / "crowded.html").write_text(text, encoding="utf-8")
    page = open_page(tmp_path / "crowded.html", width=width)
    shown = page.locator(".sk-map-label:visible").all()
    boxes = [label.bounding_box() for label in shown]
    assert len(boxes) >= 10, "most segments have a name or an id on the map"
    for number, one in enumerate(boxes):
        for other in boxes[number + 1 :]:
            apart_x = one["x"] + one["width"] <= other["x"] or other["x"] + other["width"] <= one["x"]
            apart_y = one["y"] + one["height"] <= other["y"] or other["y"] + other["height"] <= one["y"]
            assert apart_x or apart_y, f"{one} and {other}"


@pytest.mark.parametrize("width", WIDTHS)
def test_every_page_of_a_run_opens_with_the_network_off(
    open_page: Callable[..., Any], whole_run: Path, width: int
) -> None:
    files = sorted(whole_run.glob("*.html"))
    assert len(files) >= 5
    for file in files:
        page = open_page(file, width=width)
        assert page.evaluate("document.documentElement.scrollWidth") == width, f"{file.name} is wider than the screen"
        assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0 && image.alt.trim())")
        assert page.locator("h1").count() == 1 and page.title().strip()
        assert page.locator("html[lang=en]").count() == 1
        assert violations(page) == [], file.name
        most = 3 if page.locator("figure.sk-map").count() else 1
        assert file.stat().st_size <= most * MEGABYTE, f"{file.name} weighs too much"
        page.close()


def test_links_lead_from_page_to_page(open_page: Callable[..., Any], whole_run: Path) -> None:
    page = open_page(whole_run / "index.html")
    names = page.eval_on_selector_all(".sk-nav a", "links => links.map(link => link.getAttribute('href'))")
    assert set(names) == {file.name for file in whole_run.glob("*.html")}
    targets = page.eval_on_selector_all("main a[href]", "links => links.map(link => link.getAttribute('href'))")
    for name, _, anchor in (target.partition("#") for target in set(targets) - {"#"}):
        text = (whole_run / name).read_text(encoding="utf-8") if name.endswith(".html") else ""
        assert not anchor or not name or f'id="{anchor}"' in text, f"{name}#{anchor} leads nowhere"
    for name in names:
        page.click(f".sk-nav a[href='{name}']")
        assert page.url == (whole_run / name).as_uri()
