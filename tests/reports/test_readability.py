"""The prose of pages is easy to read: short sentences of common words (Flesch 1948)."""

import re
from html import unescape
from pathlib import Path

import nbformat
import pytest

HOME = Path(__file__).parents[2]
PAGES = (
    "00_overview",
    "01_profile",
    "02_embed",
    "03_segments",
    "04_personas",
    "05_predict",
    "06_measure",
    "07_refresh",
)
LOWEST_EASE, MOST_WORDS, MOST_WORDS_ON_AVERAGE = 60, 25, 14
FOR_ANALYSTS = "For analysts"  # what follows is exempt
HIDDEN = re.compile(  # on pages, or copy: an advertisement is no prose
    r"<(svg|table|script)\b.*?</\1>|<p class=\"sk-header\".*?</p>|<ul class=\"sk-copy\">.*?</ul>", re.DOTALL
)
PROSE = re.compile(r"<(p|li|figcaption|caption)\b[^>]*>(.*?)</\1>", re.DOTALL)
SENTENCE = re.compile(r"(?<=[.?!:])\s+")


def sentences_of(paragraphs: list[str]) -> list[list[str]]:
    """The words of each sentence; a shorter text is a label."""
    found = [
        re.findall(r"[A-Za-z][A-Za-z'’-]*|\d[\d.,%]*", part) for text in paragraphs for part in SENTENCE.split(text)
    ]
    return [words for words in found if len(words) > 3]


def syllables(word: str) -> int:
    """Groups of vowels, without a silent e; a figure counts as one."""
    groups = re.findall(r"[aeiouy]+", word.lower())
    silent = word.lower().endswith(("e", "es", "ed")) and not word.lower().endswith(("le", "ted", "ded", "ses"))
    return max(len(groups) - (silent and len(groups) > 1), 1)


def reading_ease(sentences: list[list[str]]) -> float:
    words = [word for sentence in sentences for word in sentence]
    return 206.835 - 1.015 * len(words) / len(sentences) - 84.6 * sum(map(syllables, words)) / len(words)


def check(sentences: list[list[str]], *, longest: int = MOST_WORDS) -> None:
    long = [" ".join(sentence) for sentence in sentences if len(sentence) > longest]
    assert not long, "split these sentences"
    assert sum(map(len, sentences)) / len(sentences) <= MOST_WORDS_ON_AVERAGE
    assert reading_ease(sentences) >= LOWEST_EASE


@pytest.mark.parametrize("page", PAGES)
def test_the_prose_of_notebooks_is_easy_to_read(page: str) -> None:
    cells = nbformat.read(HOME / "notebooks" / f"{page}.ipynb", as_version=4).cells
    shown = [c.source for c in cells if c.cell_type == "markdown" and "hide" not in c.metadata.get("tags", [])]
    text = "\n\n".join(shown).split(FOR_ANALYSTS)[0]
    paragraphs = [part for part in re.split(r"\n\s*\n", text) if not part.startswith("#")]
    check(sentences_of([re.sub(r"[*`]", "", part) for part in paragraphs]))


@pytest.mark.parametrize("page", PAGES)
def test_the_prose_of_pages_is_easy_to_read(whole_run: Path, page: str) -> None:
    name = "index" if page.startswith("00") else page
    text = (whole_run / f"{name}.html").read_text(encoding="utf-8")
    main = text.split('<main id="content">')[1].split(f">{FOR_ANALYSTS}")[0]
    main = HIDDEN.sub("", main)
    check(sentences_of([unescape(re.sub(r"<[^>]+>", "", part)) for _, part in PROSE.findall(main)]))


def test_a_long_sentence_of_long_words_is_found() -> None:
    hard = sentences_of(["Notwithstanding organisational considerations, predictability necessitates recalibration."])
    assert reading_ease(hard) < 0 < LOWEST_EASE < reading_ease(sentences_of(["The cat sat on the mat and slept."]))
