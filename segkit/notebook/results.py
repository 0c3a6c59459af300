"""Results as notebooks show them: a table, a figure, headline numbers, and a display of their own."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import pandas as pd
import yaml
from markupsafe import Markup
from matplotlib.figure import Figure

from segkit import templates
from segkit.data.runs import Run
from segkit.errors import InputError
from segkit.reports import html
from segkit.tables import titles
from segkit.texts import phrase


@dataclass(frozen=True, repr=False, eq=False)
class Result:
    """Something computed that shows itself where it stands on the last line of a cell.

    Parameters
    ----------
    table
        The rows behind it.
    metrics
        Headline numbers by flat name.
    html
        Renders what is shown; None shows the table.
    draw
        Draws its figure; None where there is none.
    tables
        Tables that a run keeps of it, by name.

    Examples
    --------
    >>> result = Result(pd.DataFrame({"month": ["May"], "orders": [12]}), metrics={"orders": 12})
    >>> result, result.metrics
    (<Result: 1 row>, {'orders': 12})
    """

    table: pd.DataFrame
    metrics: Mapping[str, Any] = field(default_factory=dict)
    html: Callable[[], Markup] | None = None
    draw: Callable[[], Figure] | None = None
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    def plot(self) -> Figure:
        """Draw the figure of this result.

        Raises
        ------
        InputError
            It has none.
        """
        if self.draw is None:
            raise InputError(f"{type(self).__name__}: there is no figure of this result. Look at its .table.")
        return self.draw()

    def save(self, run: Run) -> None:
        """Write its tables and headline numbers into a run."""
        for name, table in self.tables.items():
            run.write(table, name)
        if self.metrics:
            run.record_metrics(self.metrics)

    def _repr_html_(self) -> str:
        return str(self.html() if self.html is not None else html.table_html(self.table))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self.table)} {templates.plural(len(self.table), 'row', 'rows')}>"


def table_result(
    table: pd.DataFrame,
    *,
    name: str,
    shown: pd.DataFrame | None = None,
    columns: Mapping[str, str] | None = None,
    formats: Mapping[str, str] | None = None,
    **others: Any,
) -> Result:
    """Make a result that shows itself as a table, under the caption of a name.

    Parameters
    ----------
    table
        The rows behind it.
    name
        Of its caption in ``captions.yaml``; its columns are titled as those of the table of a run with this name.
    shown
        The same as text, where it is not shown as it is.
    columns
        Titles by column; by default those of the registry of tables.
    formats
        As in ``html.table_html``.
    **others
        Further parts of the result.
    """

    def render() -> Markup:
        if table.empty and "empty" in caption_of(name):
            return templates.html("_macros", "note", text=caption_of(name)["empty"], warn=False)
        return html.table_html(
            table if shown is None else shown,
            columns=_titles(name) if columns is None else columns,
            formats=formats,
            caption=caption_of(name)["caption"],
        )

    return Result(table, html=render, **others)


def figure_result(table: pd.DataFrame, draw: Callable[[], Figure], *, name: str, **others: Any) -> Result:
    """Make a result that shows itself as a figure, with the caption and the text for the blind of a name."""

    def render() -> Markup:
        about = caption_of(name)
        if table.empty and "empty" in about:
            return templates.html("_macros", "note", text=about["empty"], warn=False)
        return html.figure_html(draw(), alt=about["alt"], caption=about["caption"])

    return Result(table, html=render, draw=draw, **others)


def text_result(
    *table: pd.DataFrame,
    headline: str = "",
    tiles: Iterable[tuple[Any, ...]] = (),
    bullets: Iterable[str] = (),
    note: str = "",
    warn: bool = False,
    **others: Any,
) -> Result:
    """Make a result that shows itself as an answer: a sentence, large numbers, a list, a remark."""
    parts = {"tiles": list(tiles), "bullets": list(bullets)}
    rows = pd.DataFrame({"text": [line for line in (headline, *parts["bullets"], note) if line]})

    def render() -> Markup:
        return stack(
            templates.html("_macros", "headline", text=headline) if headline else "",
            html.tiles_html(parts["tiles"]) if parts["tiles"] else "",
            templates.html("_macros", "bullets", items=parts["bullets"], numbered=False) if parts["bullets"] else "",
            templates.html("_macros", "note", text=note, warn=warn) if note else "",
        )

    return Result(table[0] if table else rows, html=render, **others)


def stack(*shown: Result | Markup | str) -> Markup:
    """Put results and pieces of a page below each other."""
    return Markup("\n").join(Markup(one._repr_html_()) if isinstance(one, Result) else one for one in shown if one)


def caption_of(name: str) -> dict[str, str]:
    """Find the caption of a figure or table, and for a figure what it shows to those who cannot see it."""
    return {part: phrase(words) for part, words in _captions()[name].items()}


def _titles(name: str) -> dict[str, str] | None:
    try:
        return {column: phrase(title) for column, title in titles(name).items()} or None
    except KeyError:
        return None


@cache
def _captions() -> dict[str, dict[str, str]]:
    text = resources.files("segkit.notebook").joinpath("captions.yaml").read_text(encoding="utf-8")
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
