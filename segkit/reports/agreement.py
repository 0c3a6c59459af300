"""Compare what the pages of a run show for each segment: one number for one thing."""

import html
import re
from collections.abc import Mapping

from segkit.errors import RunError

FACT = re.compile(r'data-fact="([^"]+)"[^>]*>([^<]*)<')  # an element with the figure and nothing else in it


def check_agreement(pages: Mapping[str, str]) -> int:
    """Compare every figure, name, action and verdict of a segment over all pages.

    Parameters
    ----------
    pages
        Name of a page -> its HTML. What is compared stands in an element with ``data-fact``, such as
        ``S04.spend_next``.

    Returns
    -------
    int
        How many figures were compared.

    Raises
    ------
    RunError
        Two pages, or two places on one, show different texts for one fact.
    """
    first: dict[str, tuple[str, str]] = {}
    compared = 0
    for page, text in pages.items():
        for name, shown in FACT.findall(text):
            shown = " ".join(html.unescape(shown).split())
            earlier, value = first.setdefault(html.unescape(name), (page, shown))
            if value != shown:
                raise RunError(
                    f"{html.unescape(name)}: {earlier} shows '{value}' and {page} shows '{shown}'. "
                    "All pages must show the same: take both from the table segments."
                )
            compared += 1
    return compared
