"""The Jinja environment of the package: templates get facts and choose the words.

A template is a file ``<chapter>.html.j2`` in the folder ``templates`` of a part of the package. Each macro in it is an
element of a page or a sentence, and escapes the text it gets. One in another language stands in a folder of
``templates``, such as ``de``; without it, that of English is taken.
"""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from jinja2.environment import TemplateModule
from markupsafe import Markup

from segkit import format as fmt
from segkit.texts import ENGLISH, load_texts, phrase, spoken

SPACES = re.compile(r"[ \n]+")  # not the no-break space between a number and its unit
LONGEST_WORD = 20  # characters; a longer word may break in a table
LONG_PART = re.compile(rf"[^_./:-]{{1,{LONGEST_WORD}}}[_./:-]*|[_./:-]{{1,{LONGEST_WORD}}}")


def html(chapter: str, macro: str, **facts: Any) -> Markup:
    """Render an element of a page as HTML.

    Parameters
    ----------
    chapter
        Name of the template, without ``.html.j2``.
    **facts
        Arguments of the macro; text is escaped, Markup is not.
    """
    own = getattr(_chapter(chapter, spoken()), macro, None)
    return (own or getattr(_chapter(chapter, ENGLISH), macro))(**facts)


def text(chapter: str, macro: str, **facts: Any) -> str:
    """Render a sentence as plain text on one line; a page escapes it like any other text.

    >>> text("segments", "stayed", customers=1200, part=0.87)
    'Of 1,200 customers in both runs, 87% kept their segment.'
    """
    return SPACES.sub(" ", html(chapter, macro, **facts).unescape()).strip()


def sentence(file: str, name: str, **facts: Any) -> str:
    """Render a sentence of ``texts/<language>/<file>.yaml`` as plain text on one line.

    Parameters
    ----------
    file
        Name of the file, without ``.yaml``.
    name
        Key of the sentence; parts of it are separated by dots.
    **facts
        What the sentence speaks of; all filters of the package are at hand.

    Examples
    --------
    >>> sentence("actions", "titles.cross_need.often", offer="Fresh fruit")
    'Put more fresh fruit into the usual basket'
    """
    return SPACES.sub(" ", Markup(_sentence(file, name, spoken()).render(facts)).unescape()).strip()


def parts(words: str) -> list[str]:
    """Split a text where a line may break: only within very long words, where possible after a sign.

    >>> parts("campaign_descriptions.parquet is short")
    ['campaign_', 'descriptions.', 'parquet is short']
    """
    if isinstance(words, Markup):  # an element with a text that is short
        return [words]
    found = [""]
    for number, word in enumerate(words.split(" ")):
        first, *rest = (LONG_PART.findall(word) if len(word) > LONGEST_WORD else None) or [word]
        found[-1] += f" {first}" if number else first
        found += rest
    return found


def plural(count: float, one: str, many: str) -> str:
    """Return the singular for a count of one, else the plural.

    >>> plural(1, "customer", "customers"), plural(0, "is", "are")
    ('customer', 'are')
    """
    return one if count == 1 else many


def sort_key(value: Any) -> str:
    """Format the number by which a page sorts a cell; empty where it is unknown."""
    return "" if fmt.is_missing(value) else f"{float(value):.6g}"


@cache
def _environment(language: str) -> Environment:
    folders = sorted(Path(__file__).parent.glob("*/templates"))
    made = Environment(
        loader=FileSystemLoader([*(folder / language for folder in folders), *folders]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    forms = (
        fmt.share,
        fmt.percentage_points,
        fmt.number,
        fmt.money,
        fmt.percent,
        fmt.rate,
        fmt.count,
        fmt.score,
        fmt.small_score,
    )
    others = (fmt.joined, fmt.capitalized, fmt.lower_first, fmt.masked_count, fmt.day, fmt.month)
    others += (phrase, parts, plural, sort_key)
    made.filters |= {form.__name__: form for form in (*forms, *others)}
    made.filters |= {"interval": _interval, "spread": _spread, "between": _between}
    made.tests |= {"missing": fmt.is_missing, "few": fmt.is_few}
    made.globals |= {"FLOOR": fmt.FLOOR, "plural": plural}
    return made


@cache
def _sentence(file: str, name: str, language: str) -> Template:
    found: Any = load_texts(file)
    for part in name.split("."):
        found = found[part]
    return _environment(language).from_string(found)


@cache
def _chapter(name: str, language: str) -> TemplateModule:
    return _environment(language).get_template(f"{name}.html.j2").module


def _interval(value: Any, low: Any, high: Any, form: str) -> str:
    return fmt.interval(value, low, high, form=_filter(form))


def _spread(value: Any, low: Any, high: Any, form: str | Callable[[Any], str]) -> str:
    return fmt.spread(value, low, high, form=_filter(form))


def _between(low: Any, high: Any, form: str | Callable[[Any], str]) -> str:
    return fmt.between(low, high, form=_filter(form))


def _filter(form: str | Callable[[Any], str]) -> Callable[[Any], str]:
    return form if callable(form) else _environment(spoken()).filters[form]
