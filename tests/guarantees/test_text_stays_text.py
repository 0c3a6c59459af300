"""Text from the data is text on every page, whatever it contains: names, categories, labels, channels, free words."""

# ruff: noqa: F811  fixtures that come from another module

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from segkit.cli import main
from segkit.data.runs import open_run
from segkit.live.engine import Live
from segkit.live.page import write_page
from tests.live.live_runs import fixed_events, make_live_run
from tests.reports.test_browser import browser, crowd, open_page, page_file  # noqa: F401
from tests.reports.test_browser import pytestmark as needs_a_browser

pytestmark = needs_a_browser
TAKEN = "window.taken = 1"
ATTACKS = (  # each sets window.taken where it runs
    f"<script>{TAKEN}</script>",
    f"</script><script>{TAKEN}</script>",
    f"</style><script>{TAKEN}</script>",
    f"</title></textarea></noscript><script>{TAKEN}</script>",
    f"--><script>{TAKEN}</script><!--",
    f"]]><script>{TAKEN}</script>",
    f"<!--<script>{TAKEN}//-->",
    f'<img src=x onerror="{TAKEN}">',
    f"<img src=x onerror={TAKEN.replace(' ', '')}//",
    f'"><img src=x onerror="{TAKEN}">',
    f"'><svg onload='{TAKEN}'>",
    f'<svg/onload="{TAKEN}">',
    f'<svg><animate onbegin="{TAKEN}" attributeName=x dur=1s>',
    f'<details open ontoggle="{TAKEN}">',
    f'<body onload="{TAKEN}">',
    f'<input autofocus onfocus="{TAKEN}">',
    f'<video><source onerror="{TAKEN}"></video>',
    f'<iframe srcdoc="<script>parent.{TAKEN}</script>"></iframe>',
    f'<iframe src="javascript:parent.{TAKEN}"></iframe>',
    f'<a href="javascript:{TAKEN}">x</a>',
    f"[x](javascript:{TAKEN.replace(' ', '')})",
    '![x](x"onerror="window.taken=1)',
    '<meta http-equiv="refresh" content="0;url=https://192.0.2.1/">',
    '<link rel=stylesheet href="https://192.0.2.1/x.css">',
    '<base href="https://192.0.2.1/">',
    "<style>*{background:url(https://192.0.2.1/x)}</style>",
    f'" onmouseover="{TAKEN}" x="',
    f"' autofocus onfocus='{TAKEN}' x='",
    f"`;{TAKEN};`",
    f"${{{TAKEN}}}",
    f"{{{{constructor.constructor('{TAKEN}')()}}}}",
    "{{7*191}}{% raw %}{{ config }}",
    "{%for x in ().__class__.__base__.__subclasses__()%}{{x}}{%endfor%}",
    "&lt;script&gt;window.taken=1&lt;/script&gt;",
    "&#60;script&#62;window.taken=1&#60;/script&#62;",
    "\\u003cscript\\u003ewindow.taken=1\\u003c/script\\u003e",
    "<scr\u0000ipt>window.taken=1</scr\u0000ipt>",
    "\u202e<gpj.x=crs gmi>\u202c",
    "\u2028window.taken=1\u2029",
    f"';{TAKEN};//",
    f'";{TAKEN};//',
    f"\\';{TAKEN};//",
    f"<math><mtext><script>{TAKEN}</script>",
    f"<template><script>{TAKEN}</script></template>",
    "$x$ \\(\\href{javascript:window.taken=1}{x}\\)",
    "<!-- contents --><!-- scripts -->",
    '<b class="sk-map">x</b>',
)
PARTS = 3  # of the attacks, as names of the three segments of a page
LONGEST_LABEL = 40


def names() -> dict[str, str]:
    """All attacks, as the names of three segments."""
    ids = ("S01", "S02", "S13")
    return {ids[part]: " ".join(ATTACKS[part::PARTS]) for part in range(PARTS)}


def untaken(page: Any, *, wait: int = 300) -> bool:
    """Whether nothing of the text has run or become an element."""
    page.wait_for_timeout(wait)
    risky = (
        "script[src], iframe, object, embed, base, math, template, body *[onload], *[onerror], *[onfocus], *[onbegin]"
    )
    assert page.evaluate("window.taken") is None, "it ran"
    assert page.locator(risky).count() == 0
    assert (
        page.locator("meta[http-equiv=refresh][content*='://'], link[href*='://'], a[href^='javascript']").count() == 0
    )
    return True


@pytest.mark.slow  # test_browser checks a few such names each day
def test_names_and_needs_of_every_kind_stay_text(
    open_page: Callable[..., Any],
    page_file: Callable[..., Path],
) -> None:
    page = open_page(page_file(names()))
    assert untaken(page)
    shown = page.locator(".sk-map-keys button").all_inner_texts()
    for attack in ("<script>", "onerror", "{{7*191}}", "&lt;script&gt;"):
        assert any(attack in text for text in shown), "the text is shown as written"
    assert page.locator("text=1337").count() == 0, "no template was filled in"
    for button in page.locator(".sk-map-keys button").all():
        button.hover()
        button.click()
    assert untaken(page)


@pytest.mark.slow
def test_the_live_page_shows_it_as_text(open_page: Callable[..., Any], tmp_path: Path) -> None:
    run = make_live_run(tmp_path / "run", fixed_events())
    segments = run.table("segments")
    names = [" ".join(ATTACKS[n :: len(segments)]) for n in range(len(segments))]
    open_run(run.path, step="03_segments").write(segments.assign(name=names), "segments")
    run.update(parameters={**run.parameters(), "source_name": "".join(ATTACKS)})
    with Live(run.path, state=tmp_path / "state.sqlite") as live:
        path = write_page(live, tmp_path / "page")
    page = open_page(path)
    assert untaken(page)
    assert "<script>" in page.locator("h1").inner_text()


def evil_company(company: Path, folder: Path) -> Path:
    """Write the made-up shop with an attack in every text."""
    shutil.copytree(company.parent, folder)
    events = pd.read_parquet(folder / "events.parquet")
    for column in ("category", "channel", "campaign", "item", "text"):
        values = sorted(events[column].dropna().unique())
        events[column] = events[column].map(
            {value: f"{ATTACKS[n % len(ATTACKS)]} {value}" for n, value in enumerate(values)}
        )
    events.to_parquet(folder / "events.parquet", index=False)
    people = pd.read_csv(folder / "customers.csv")
    regions = sorted(people["region"].dropna().unique())
    people["region"] = people["region"].map({region: f"{ATTACKS[n]} {region}" for n, region in enumerate(regions)})
    people.to_csv(folder / "customers.csv", index=False)
    source = yaml.safe_load((folder / company.name).read_text(encoding="utf-8"))
    known = sorted(events["category"].dropna().unique())
    source["labels"] = {value: ATTACKS[-n % len(ATTACKS)][:LONGEST_LABEL] for n, value in enumerate(known[::4])}
    (folder / company.name).write_text(yaml.safe_dump(source, allow_unicode=True), encoding="utf-8")
    return folder / company.name


@pytest.mark.slow
def test_a_whole_report_on_attacks_is_a_report_of_texts(
    open_page: Callable[..., Any],
    made_up_company: Path,
    tmp_path: Path,
) -> None:
    source = evil_company(made_up_company, tmp_path / "company")
    runs = tmp_path / "reports"
    runs.mkdir()
    (runs / "overrides.yaml").write_text(yaml.safe_dump({"rename": {"S01": "".join(ATTACKS[:9])}}), encoding="utf-8")
    given = ["run", "--source", str(source), "--out", str(runs / "run"), "--show-code"]
    result = CliRunner().invoke(main, given)
    assert result.exit_code == 0, result.stderr
    files = sorted((runs / "run").glob("*.html"))
    assert len(files) >= 8
    for file in files:
        page = open_page(file)
        assert untaken(page), file.name
        page.close()
    assert "&lt;script&gt;" in (runs / "run" / "index.html").read_text(encoding="utf-8")
