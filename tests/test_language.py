"""The project speaks the field's English: words of docs/glossary.md's kind, and none of those listed here."""

import ast
import io
import json
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

HOME = Path(__file__).parents[1]
INSTEAD = {  # a word that is refused -> what to write
    "told": "text, label, metadata or report; in prose: described, reported",
    "foretell": "predict, forecast",
    "foretold": "predicted",
    "foresee": "predict",
    "foreseen": "predicted",
    "foresees": "predicts",
    "foresight": "predictability",
    "anew": "again",
    "whom": "who, or name the customers",
    "lately": "recently, in the last N days",
    "elsewhere": "other customers; in another folder",
    "mend": "fix",
    "mended": "fixed",
    "aside": "rejected (rows), staging (a run), backup",
    "beside": "next to, compared with, in the same folder as",
    "besides": "also",
    "crumbs": "small segments",
    "veil": "privacy",
    "surely": "give the interval, or leave it out",
    "to and fro": "back and forth",
    "by lot": "at random",
    "at the last": "in the end",
}
ONLY_NAMES = {  # refused in identifiers, where they say too little
    "tell": "a verb that does one thing: format_, render_, describe_",
    "say": "a verb that does one thing",
    "says": "a verb that does one thing",
    "said": "text, answer, label",
    "came": "observed, outcomes",
    "promised": "predicted",
    "promises": "forecasts, guarantees",
    "rival": "baseline",
    "rivals": "baselines",
    "judge": "score",
    "judged": "scored",
    "judges": "test rows",
    "introduce": "segment_table",
    "forgotten": "erased",
    "lasting": "lineage",
    "carried": "with_previous_model",
    "tastes": "category_mix",
}
ALLOWED = {  # word -> places where it is a name on disk, a column, a key, or a text that tables hold
    "forgotten": ("segkit/erasure.py", "segkit/data/privacy.py", "segkit/data/runs.py", "segkit/experiments/"),
    "told": ("segkit/erasure.py", "segkit/live/state.py", "segkit/customers/profile.py", "segkit/data/readiness.py",
             "segkit/experiments/estimate.py", "benchmarks/compare_runs.py"),
    "aside": ("segkit/erasure.py", "segkit/live/state.py", "segkit/customers/profile.py", "segkit/data/spec.py"),
    "lately": ("segkit/vocabulary.py", "segkit/customers/", "segkit/personas/rules.py"),
    "whom": ("segkit/customers/profile.py", "segkit/personas/cards.py"),
    "beside": ("segkit/customers/profile.py",),
    "at the last": ("segkit/refresh/decisions.py",),
    "said": ("segkit/reports/personas.py",),
}  # fmt: skip
DATA = ("segkit/data/complete_journey.yaml", "segkit/data/scenarios.yaml")  # words of the data, not ours
PAGES = ("segkit/texts/en/cards.yaml", "segkit/texts/en/copy.yaml", "segkit/texts/en/need_lines.yaml")  # what cards say
PYTHON = sorted(path for part in ("segkit", "tests", "benchmarks") for path in (HOME / part).rglob("*.py"))
TEXTS = sorted(
    [
        *(HOME / name for name in ("README.md", "CHANGELOG.md")),
        *(HOME / "docs").glob("*.md"),
        *(HOME / "notebooks").glob("**/*.ipynb"),
        *(HOME / folder / "README.md" for folder in ("notebooks", "benchmarks", "reports")),
    ]
)
WORD = re.compile(rf"(?<![.`])\b({'|'.join(INSTEAD)})\b", re.IGNORECASE)


def _place(path: Path) -> str:
    return str(path.relative_to(HOME))


def _name_parts(name: str) -> Iterator[str]:
    """The words of an identifier: split at underscores and capitals."""
    for part in name.split("_"):
        yield from (word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", part))


def refused_words(text: str) -> list[str]:
    """Words of a prose text that are refused, each with what to write."""
    return [f"{found[0]!r}: write {INSTEAD[found[0].lower()]}" for found in WORD.finditer(text)]


def _without(found: list[str], words: list[str]) -> list[str]:
    return [one for one in found if not any(f"'{word}'" in one.lower() for word in words)]


def refused_names(text: str) -> list[str]:
    """Identifiers of a Python text that hold a refused word."""
    refused = INSTEAD | ONLY_NAMES
    found = []
    for node in ast.walk(ast.parse(text)):
        names = [getattr(node, field, None) for field in ("name", "id", "arg")]
        for name in {name for name in names if isinstance(name, str)}:
            found += [f"{name}: {part!r}: write {refused[part]}" for part in _name_parts(name) if part in refused]
    return sorted(set(found))


def prose_of(text: str) -> Iterator[tuple[int, str]]:
    """Comments, docstrings and messages of a Python text, with their lines; not single words, which are data."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and " " in token.string.strip()):
            yield token.start[0], token.string


@pytest.mark.parametrize("path", [path for path in PYTHON if path.name != Path(__file__).name], ids=_place)
def test_names_docstrings_and_messages_use_the_words_of_the_field(path: Path) -> None:
    text, place = path.read_text(encoding="utf-8"), _place(path)
    tests = ("tests/",)  # their strings quote messages and tables
    prose = [word for word, places in ALLOWED.items() if place.startswith((*places, *tests))]
    names = [word for word, places in ALLOWED.items() if place.startswith(places)]
    found = [f"{line}: {one}" for line, part in prose_of(text) for one in _without(refused_words(part), prose)]
    assert not found + _without(refused_names(text), names)


@pytest.mark.parametrize("path", TEXTS, ids=_place)
def test_documents_and_notebooks_use_the_words_of_the_field(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
    assert not refused_words(text)


def test_a_refused_word_is_found_and_the_right_one_named() -> None:
    assert refused_words("The rows set aside") == ["'aside': write rejected (rows), staging (a run), backup"]
    assert refused_names("def told_of(x): pass")[0].startswith("told_of: 'told': write text")
    assert not refused_names("def untold(x): pass") and not refused_words("Inside, a side")
