"""Languages: the texts of each say and claim the same, and what has been translated holds no English."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from threading import Barrier

import nbformat
import pytest
import yaml
from jinja2 import Environment, nodes

from segkit import format as fmt
from segkit.errors import InputError
from segkit.notebook.lacking import LEFT_OUT
from segkit.notebook.results import caption_of
from segkit.notebook.translating import translate_notebook, translate_script
from segkit.period import dates_text
from segkit.personas.facts import PLACEHOLDER
from segkit.personas.naming import HABITS, LEVEL_NAMES
from segkit.segments.validation import BASELINE_LABELS
from segkit.tables import notebooks, titles
from segkit.texts import check_language, languages, page_language, phrase, speak, speaking, spoken

HOME = Path(__file__).parents[1]
TEXTS, TEMPLATES = HOME / "segkit/texts", (HOME / "segkit/reports/templates", HOME / "segkit/assist/templates")
OTHERS = [language for language in languages() if language != "en"]
TABLES = ("comparison", "rules", "favourites", "signals")  # on translated pages
ENGLISH_WORDS = re.compile(r"(?<![\w-])(the|and|of|customers|with|are|from|who|which)(?![\w-])")
JINJA_FACT = re.compile(r"{{\s*(?:plural\()?(\w+)")


def _load(language: str, name: str) -> dict:
    return yaml.safe_load((TEXTS / language / f"{name}.yaml").read_text(encoding="utf-8"))


def _leaves(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
        return
    for key, each in value.items() if isinstance(value, dict) else enumerate(value):
        yield from _leaves(each, f"{path}.{key}")


@pytest.mark.parametrize("name", ["cards", "actions"])
@pytest.mark.parametrize("language", OTHERS)
def test_sentences_of_another_language_have_the_same_keys_facts_and_claims(language: str, name: str) -> None:
    english, other = (dict(_leaves(_load(each, name))) for each in ("en", language))
    assert other.keys() == english.keys()
    for key, text in english.items():
        if key.endswith((".claim", ".when")):
            assert other[key] == text, key
        elif key.startswith(".titles") or ".evidence" in key:
            assert set(JINJA_FACT.findall(other[key])) == set(JINJA_FACT.findall(text)), key
        else:
            assert set(PLACEHOLDER.findall(other[key])) == set(PLACEHOLDER.findall(text)), key
            assert not ENGLISH_WORDS.search(PLACEHOLDER.sub("", re.sub(r"{[{%].*?[%}]}", "", other[key]))), key


@pytest.mark.parametrize("language", OTHERS)
def test_a_template_of_another_language_has_elements_of_the_english_one(language: str) -> None:
    parser = Environment(autoescape=True)
    for path in sorted(path for folder in TEMPLATES for path in (folder / language).glob("*.j2")):
        own, english = (
            {
                made.name: [arg.name for arg in made.args]
                for made in parser.parse(file.read_text()).find_all(nodes.Macro)
            }
            for file in (path, path.parents[1] / path.name)
        )
        assert own.items() <= english.items(), path.name
        words = re.sub(r"{[{%#].*?[%}#]}|<[^>]*>", " ", path.read_text(), flags=re.DOTALL)
        assert not ENGLISH_WORDS.search(words), path.name


@pytest.mark.parametrize("language", OTHERS)
def test_pages_scripts_and_names_are_translated_whole(language: str) -> None:
    for step, cells in _load(language, "pages").items():
        notebook = nbformat.read(HOME / "notebooks" / f"{step}.ipynb", as_version=4)
        shown = [
            cell.source.partition("\n")[0]
            for cell in notebook.cells
            if cell.cell_type == "markdown" and "hide" not in cell.metadata.get("tags", [])
        ]
        assert list(cells) == shown, f"{step}: a heading of the notebook is another, or has no translation"
        with speaking(language):
            made = translate_notebook(notebook, step=step)
        assert made.cells[0].source.startswith("# ")
        assert made.cells[0].source != notebook.cells[0].source
    scripts = "".join(path.read_text() for path in (HOME / "segkit/reports").glob("*.js"))
    assert [words for words in _load(language, "scripts") if words not in scripts] == []
    with speaking(language):
        assert translate_script(scripts) != scripts
    known = _load(language, "phrases")
    named = {name for names in LEVEL_NAMES.values() for name in names} | {
        word for pair in HABITS.values() for word in pair
    }
    named |= {words for one in notebooks().values() for words in (one.label, one.question)} | {
        *BASELINE_LABELS.values()
    }
    named |= {words for name in TABLES for words in (*titles(name).values(), *caption_of(name).values())}
    assert named - known.keys() - {""} == set()


def test_threads_speak_languages_of_their_own() -> None:
    both = Barrier(2, timeout=10)

    def speak_in(language: str) -> tuple[str, str]:
        with speaking(language):
            both.wait()
            now = spoken()
            both.wait()
        return now, spoken()

    with ThreadPoolExecutor() as pool:
        assert [*pool.map(speak_in, ["en", "de"])] == [("en", "en"), ("de", "en")]
        speak("de", names="en")
        try:
            assert pool.submit(spoken).result() == "de", "a notebook says it once, for all of its threads"
        finally:
            speak("en", names="en")


def test_chapters_that_may_be_left_out_stand_in_their_notebooks() -> None:
    for chapters in LEFT_OUT.values():
        for step, headings in chapters.items():
            cells = json.loads((HOME / "notebooks" / f"{step}.ipynb").read_text(encoding="utf-8"))["cells"]
            first_lines = {"".join(cell["source"]).partition("\n")[0] for cell in cells}
            assert set(headings) <= first_lines, step


def test_german_figures_and_dates_are_written_as_germans_do() -> None:
    with speaking("de"):
        assert fmt.money(1234.5, currency="EUR") == "1.230\xa0€"
        assert fmt.money(3.7, currency="EUR") == "3,70\xa0€"
        assert fmt.money(-1_234_567, currency="USD") == "−1,23\xa0Mio.\xa0$"
        assert (fmt.share(0.05), fmt.number(24189), fmt.number(1_234_567)) == ("5\xa0%", "24.200", "1,2\xa0Mio.")
        assert fmt.between(850, 1010, form=lambda value: fmt.money(value, currency="EUR")) == "850–1.010\xa0€"
        assert dates_text(date(2018, 1, 15), date(2018, 4, 16)) == "15. Januar bis 15. April 2018"
        assert fmt.lower_first("Obst und Gemüse") == "Obst und Gemüse"
        assert phrase("no such phrase") == "no such phrase"
    assert fmt.share(0.05) == "5%", "the language ends with its block"


def test_an_unknown_language_is_refused_by_name_and_a_page_without_texts_is_english() -> None:
    with pytest.raises(InputError, match="Give de or en"):
        check_language("fr")
    assert page_language("04_personas", language="de") == "de"
    assert page_language("02_embed", language="de") == page_language("04_personas", language="en") == "en"


def test_phrases_that_a_page_words_differently_still_stand_on_one() -> None:
    """Each phrase of ``lacking.yaml`` stands in a notebook or in a text of the package."""
    cells = [cell.source for path in (HOME / "notebooks").glob("0*.ipynb") for cell in nbformat.read(path, 4).cells]
    kinds = ("**/*.py", "**/*.yaml", "**/*.j2")
    files = [path for kind in kinds for path in (HOME / "segkit").glob(kind) if path.name != "lacking.yaml"]
    texts = re.sub(r"[*_\s]+", " ", " ".join([*cells, *(path.read_text(encoding="utf-8") for path in files)]))
    formed = {f"{lead} on spend" for lead in ("ahead", "level", "behind")}
    for lacking in _load("en", "lacking").values():
        gone = [phrase for phrase in set(lacking) - formed if " ".join(phrase.split()) not in texts]
        assert not gone, f"{gone}: on no page any more"
