"""The styles and scripts of a page, which are read without loading what draws figures."""

from functools import cache
from pathlib import Path


@cache
def stylesheet(name: str) -> str:
    """Read the CSS in this folder: "views" for what notebooks display, "page" for the page around it."""
    return (Path(__file__).parent / f"{name}.css").read_text(encoding="utf-8")


@cache
def script(name: str) -> str:
    """Read the JavaScript in this folder: "sort" for tables, "compare" for segments, "map" for customers, "cards"."""
    return (Path(__file__).parent / f"{name}.js").read_text(encoding="utf-8")


@cache
def bokeh_script() -> str:
    """Read the core of BokehJS from the installed package: 1.3 MB, so only for pages with a map."""
    from bokeh.resources import Resources  # slow to import, and needed by few pages

    return "\n".join(Resources(mode="inline", components=["bokeh"], minified=True).js_raw[:1]).replace(
        "</script", "<\\/script"
    )
