"""The one Jinja environment: pages and their sentences are written in templates, which get facts and choose the words.

A template is a file `<chapter>.html.j2` in the folder `templates` of the part of the package that uses it. It holds
macros, each an element of a page or a sentence. Every one of them escapes what it gets.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.environment import TemplateModule
from markupsafe import Markup

from segkit import format as fmt

SPACES = re.compile(r"[ \n]+")  # the no-break space between a number and its unit stays
LONGEST_WORD = 20  # characters that a table keeps together
LONG_PART = re.compile(rf"[^_./:-]{{1,{LONGEST_WORD}}}[_./:-]*|[_./:-]{{1,{LONGEST_WORD}}}")


def html(chapter: str, macro: str, **facts: Any) -> Markup:
    """Render an element of a page.

    Parameters
    ----------
    chapter
        Name of the template, without its endings.
    macro
        Name of the macro in it.
    **facts
        What the macro shows; text is escaped, Markup is taken as it is.
    """
    return getattr(_chapter(chapter), macro)(**facts)


def text(chapter: str, macro: str, **facts: Any) -> str:
    """Render a sentence as plain text on one line, for a page, a terminal or a file.

    It is escaped like any other text where it enters a page.

    >>> text("overview", "headline", segments=3, customers=1200, top=0, top_share=None, cooling=1)
    '3 segments describe 1,200 customers; 1 is cooling.'
    """
    return SPACES.sub(" ", html(chapter, macro, **facts).unescape()).strip()


def parts(words: str) -> list[str]:
    """Split a text where a line may break: within very long words only, best after a sign.

    >>> parts("campaign_descriptions.parquet is short")
    ['campaign_', 'descriptions.', 'parquet is short']
    """
    found = [""]
    for number, word in enumerate(words.split(" ")):
        first, *rest = (LONG_PART.findall(word) if len(word) > LONGEST_WORD else None) or [word]
        found[-1] += f" {first}" if number else first
        found += rest
    return found


def plural(count: float, one: str, many: str) -> str:
    """Choose the word for one or for several.

    >>> plural(1, "customer", "customers"), plural(0, "is", "are")
    ('customer', 'are')
    """
    return one if count == 1 else many


def sort_key(value: Any) -> str:
    """Write the number by which the script of a page sorts a cell; nothing where it is unknown."""
    return "" if fmt.is_missing(value) else f"{float(value):.6g}"


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(sorted(Path(__file__).parent.glob("*/templates"))),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    forms = (fmt.share, fmt.percentage_points, fmt.number, fmt.count, fmt.score, fmt.small_score)
    made.filters |= {form.__name__: form for form in (*forms, fmt.joined, fmt.masked_count, parts, plural, sort_key)}
    made.filters["interval"] = _interval
    made.tests |= {"missing": fmt.is_missing, "few": fmt.is_few}
    made.globals["FLOOR"] = fmt.FLOOR
    return made


@cache
def _chapter(name: str) -> TemplateModule:
    return _environment().get_template(f"{name}.html.j2").module


def _interval(value: Any, low: Any, high: Any, form: str) -> str:
    return fmt.interval(value, low, high, form=_environment().filters[form])
