"""What is never offered: goods that the lexicon lists, such as alcohol, and what the source and people add to them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import ibis.expr.types as ir
import numpy as np
import pandas as pd

from segkit.customers.category_mix import is_free_text, split_words
from segkit.customers.days import THINGS, one_name_a_row
from segkit.data.runs import Run
from segkit.data.spec import Source
from segkit.personas.keywords import KeywordIndex, stem, words_of
from segkit.personas.lexicon import Lexicon, match_strengths, read_lexicon
from segkit.personas.naming import label
from segkit.personas.need_names import flag_things

MOSTLY = 0.5  # of the weight of a need; it is flagged where so much of it is
NO_NEED = (None, None)  # id and name of the need of a thing that belongs to none


@dataclass(frozen=True)
class Flags:
    """Hold which things call for care.

    Parameters
    ----------
    table
        ``thing, label`` (null where it has none), ``need`` (id; null outside all needs), ``sensitive, never_offer``,
        sorted by thing.
    unmatched
        What was asked never to be offered, and matches nothing that was bought.
    """

    table: pd.DataFrame
    unmatched: tuple[str, ...]

    def sentences(self) -> list[str]:
        """Return a sentence for each request that matches nothing."""
        return [f"never_offer: {asked!r} matches nothing that was bought." for asked in self.unmatched]


def flag_all_things(
    names: Iterable[str],
    *,
    asked: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    needs: Mapping[str, tuple[str, str]] | None = None,
) -> Flags:
    """Flag all things that can be offered, and the words of their names where these are free text.

    Parameters
    ----------
    names
        Categories and items that were bought.
    asked
        What is never offered either: a thing or its label, a need, or a word, in small letters or capitals.
    labels
        Thing -> label of the source.
    needs
        Id and name of its need, by thing.
    """
    distinct = {str(name) for name in names}
    words = {word for name in distinct for word in split_words(name)} if is_free_text(list(distinct)) else set()
    things = sorted(distinct | words | set(needs or {}))
    table = flag_things(things, labels=labels)
    belongs = [(needs or {}).get(thing, NO_NEED) for thing in things]
    table.insert(1, "label", pd.Series([(labels or {}).get(thing) for thing in things], dtype=object))
    table.insert(2, "need", pd.Series([need for need, _ in belongs], dtype=object))
    wanted = list(dict.fromkeys(asked))
    matched = _matches(wanted, things, labels=labels or {}, belongs=belongs, lexicon=read_lexicon(None))
    table["never_offer"] |= matched.any(axis=1)
    return Flags(
        table, tuple(entry for entry, any_thing in zip(wanted, matched.any(axis=0), strict=True) if not any_thing)
    )


def never_offered(run: Run) -> frozenset[str]:
    """Return the things of a run that are never offered; none where it has no table of things."""
    if not run.has("things"):
        return frozenset()
    table = run.table("things")
    return frozenset(table.loc[table["never_offer"], "thing"])


def names_not_to_send(run: Run) -> frozenset[str]:
    """Return the names, in lower case, that no text to a customer may hold: of flagged things, and of needs of them."""
    if not run.has("things"):
        return frozenset()
    table = run.table("things")
    flagged = table["sensitive"] | table["never_offer"]
    labels = labels_of_things(run)
    names = {label(thing, labels=labels) for thing in table.loc[flagged, "thing"]}
    if not run.has("needs"):
        return frozenset(name.lower() for name in names)
    needs, own = run.table("needs"), run.table("need_things")
    of_flagged = own["weight"].where(own["sensitive"] | own["never_offer"], 0.0).groupby(own["need"]).sum()
    mostly = of_flagged >= MOSTLY * own.groupby("need")["weight"].sum()
    names |= set(needs.loc[needs["sensitive"].astype(bool) | needs["need"].isin(mostly[mostly].index), "name"])
    return frozenset(name.lower() for name in names)


def labels_of_things(run: Run) -> dict[str, str]:
    """Return the labels of the things of a run: those of its source, and of items that are codes."""
    if not run.has("things"):
        return {}
    return run.table("things").set_index("thing")["label"].dropna().to_dict()


def describe_never_offer(source: Source, events: ir.Table) -> list[str]:
    """Describe, for ``segkit check``, what of ``never_offer`` matches nothing in the events of a source."""
    if not source.needs.never_offer:
        return []
    tables = [one_name_a_row(events, name).select(thing=name) for name in THINGS if name in events.columns]
    found = {name for table in tables for name in table.distinct().to_pandas()["thing"].dropna()}
    flags = flag_all_things(found, asked=source.needs.never_offer, labels=source.labels)
    return [f"  {sentence}" for sentence in flags.sentences()]


def _matches(
    asked: Sequence[str],
    things: Sequence[str],
    *,
    labels: Mapping[str, str],
    belongs: Sequence[tuple[str | None, str | None]],
    lexicon: Lexicon,
) -> np.ndarray:
    """Return which thing matches which request (things x requests)."""
    keys = [entry.strip().casefold() for entry in asked]
    matched = np.zeros((len(things), len(keys)), dtype=bool)
    if not keys or not things:
        return matched
    have_words = [number for number, entry in enumerate(asked) if words_of(entry)]
    index = KeywordIndex.of([[asked[number]] for number in have_words])
    for row, (thing, own) in enumerate(zip(things, belongs, strict=True)):
        shown = labels.get(thing) or thing
        same = {text.strip().casefold() for text in (thing, shown, *own) if text}
        matched[row] = [key in same for key in keys]
        for _, _, number in index.find(words_of(shown)):
            matched[row, have_words[number]] = True
    strength = match_strengths(things, lexicon=lexicon, labels=labels)
    for column, entry in enumerate(asked):
        entries = _lexicon_entries(entry, lexicon)
        if entries:
            matched[:, column] |= np.asarray(strength[:, entries].sum(axis=1)).ravel() > 0
    return matched


def _lexicon_entries(asked: str, lexicon: Lexicon) -> list[int]:
    """Find the needs of the lexicon with this name, and the sensitive ones of which it is a keyword."""
    key, word = asked.strip().casefold(), tuple(map(stem, words_of(asked)))
    found = []
    for number, entry in enumerate(lexicon.entries):
        is_name = key in {name.casefold() for name in (entry.key, entry.label, entry.label_de) if name}
        keywords = entry.keywords if entry.sensitive and word else ()
        if is_name or any(tuple(map(stem, words_of(keyword))) == word for keyword in keywords):
            found.append(number)
    return found
