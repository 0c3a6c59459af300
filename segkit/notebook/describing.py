"""The fourth chapter of a run: who the segments are, what they need, and what may be written to them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from segkit.customers.needs import Needs, load_needs
from segkit.customers.profile import FEATURE_ROLES
from segkit.data import sources
from segkit.data.runs import Run, open_run_source
from segkit.errors import InputError
from segkit.experiments.pooled import pool_readouts
from segkit.format import FLOOR
from segkit.notebook.profiling import load_customers
from segkit.notebook.results import Result, stack, table_result, text_result
from segkit.personas import cards
from segkit.personas import copy as copy_module
from segkit.personas import facts as facts_module
from segkit.personas.action_table import Actions, condition_text, find_actions, per_stretch, spoken_offer
from segkit.personas.actions import NONE, Situation
from segkit.personas.cards import CARD_PARTS, has_story
from segkit.personas.claims import RawFigures, check_claims
from segkit.personas.copy import COPY_METADATA, TONES, VOICE_FILE, Voice, model_writer, read_voice
from segkit.personas.evidence import OWN_PART, CardTables, collect_facts
from segkit.personas.facts import Fact
from segkit.personas.lexicon import vertical_of
from segkit.personas.naming import member_activity_levels, need_labels
from segkit.personas.never_offer import labels_of_things, names_not_to_send
from segkit.personas.offerable import offerable_needs
from segkit.personas.rules import learn_rules, rule_features, rules_table, split
from segkit.personas.totals import customer_totals
from segkit.personas.traits import (
    compare_predictors,
    customer_texts,
    learn_topics,
    segment_topics,
    segment_traits,
    unmet_needs,
)
from segkit.personas.uptake import CROSS_NEED
from segkit.reports import actions as actions_report
from segkit.reports import personas as personas_report
from segkit.reports import segments as segments_report
from segkit.segments.fit import read_training_windows
from segkit.segments.model import model_from_arrays
from segkit.segments.validation import attribute_groups
from segkit.tables import titles
from segkit.texts import phrase
from segkit.vocabulary import CANCEL

NO_NEEDS = "No needs stand out in this data."
USE_TITLES = {"share": "Of what they use", "buyers": "Members who use it"}  # of the table favourites
OF_NEED = ("copy_need", "copy_line", "copy_push", "copy_ad", "copy_job")  # facts that speak of the need of a segment


@dataclass(frozen=True)
class _Described:
    """What personas are written from: the tables of a run and its customers."""

    run: Run
    seed: int

    @cached_property
    def source(self) -> Any:
        opened = open_run_source(self.run)
        return opened.model_copy(update={"labels": {**labels_of_things(self.run), **opened.labels}})

    @cached_property
    def customers(self) -> Any:
        return load_customers(self.run).state

    @property
    def now(self) -> Any:
        return self.customers.data

    @cached_property
    def features(self) -> pd.DataFrame:
        return self.run.table("features").set_index("customer_id")

    @cached_property
    def segment(self) -> pd.Series:
        return self.run.table("assignments").set_index("customer_id")["segment"]

    @cached_property
    def axes(self) -> pd.DataFrame:
        return self.run.table("anticipation").set_index("customer_id").filter(like="axis_").loc[self.segment.index]

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        return {name: self.run.table(name) for name in ("segments", "favourites", "signals")}

    @cached_property
    def named_needs(self) -> dict[str, list[str]]:
        needs = self.tables["favourites"]
        return needs.groupby("segment")["term"].apply(list).to_dict() if len(needs) else {}

    @cached_property
    def con(self) -> Any:
        return sources.connect()

    @cached_property
    def needs(self) -> Needs | None:
        return load_needs(self.run)

    @cached_property
    def sensitive(self) -> set[str]:
        needs = self.run.table("needs") if self.run.has("needs") else pd.DataFrame({"name": [], "sensitive": []})
        return set(needs.loc[needs["sensitive"].astype(bool), "name"])

    @cached_property
    def uses(self) -> bool:
        return "purchase" not in self.source.needs.kinds

    @cached_property
    def in_money(self) -> bool:
        return "spend" in self.features and set(self.source.needs.kinds) == {"purchase"}

    @cached_property
    def vertical(self) -> str:
        return vertical_of(self.needs.names) if self.needs is not None else ""

    @cached_property
    def activity_levels(self) -> pd.Series:
        return member_activity_levels(self.tables["segments"], features=self.features, segment=self.segment)


@dataclass(frozen=True, repr=False, eq=False)
class Opportunities(Result):
    """What to do, for which segments, and what it may bring: the best first.

    Parameters
    ----------
    found
        The opportunities; ``best(segment)`` returns the first one that a segment is part of.
    """

    found: Actions | None = None

    def best(self, segment: str) -> pd.Series | None:
        """Return the first opportunity that a segment is part of; None for a segment without a story."""
        return self.found.best(segment)


@dataclass(frozen=True, repr=False, eq=False)
class Personas(Result):
    """A persona for each segment: itself the answer; ``table`` holds the texts of the cards.

    Parameters
    ----------
    facts
        Every figure that a text may use, with how it was computed.
    actions
        The opportunities of the segments.
    predictors
        How well segments and demographics predict what a customer is like.
    rules
        Rules by which a CRM rebuilds the segments.
    claims
        Each sentence of the cards, and what was checked of it on raw events.
    needs, traits
        What each segment buys more than other customers, and who they are.
    """

    facts: tuple[Fact, ...] = ()
    actions: Opportunities | None = None
    activity_levels: pd.Series | None = None
    voice: Voice = Voice()
    uses: bool = False
    vertical: str = ""
    categories: tuple[str, ...] = ()
    not_to_send: frozenset[str] = frozenset()
    segments: pd.DataFrame | None = None
    claims: Result | None = None
    predictors: Result | None = None
    rules: Result | None = None
    needs: Result | None = None
    traits: Result | None = None

    def cards(self, *, copy: "Copy | None" = None) -> Result:
        """Show the cards, with the copy that may be sent where it is given."""
        shown = {
            "facts": self.tables["facts"],
            "segments": self.segments,
            "copy": None if copy is None else copy.table,
        }
        return Result(self.table, html=lambda: personas_report.persona_cards_html(self.table, **shown))

    def save(self, run: Run) -> None:
        """Write its tables and headline numbers into a run, and check every figure of the texts once more."""
        super().save(run)
        facts_module.verify(run.table("personas"), run.table("facts"))
        best = {segment: self.actions.best(segment) for segment in run.table("segments")["segment"]}
        titles = pd.Series(
            {segment: None if one is None else one["title"] for segment, one in best.items()}, dtype=object
        )
        run.complete("segments", titles.rename_axis("segment").to_frame("action"))


def write_personas(run: Run) -> Personas:
    """Write a persona for each segment of a run: name, story, what to offer, and a rule to find its customers.

    Parameters
    ----------
    run
        A run that holds 03_segments.

    Raises
    ------
    FactError
        A text holds a figure that is not a fact of its segment.

    Examples
    --------
    >>> run = segkit.load_run(segkit.example_run())
    >>> personas = segkit.write_personas(run)
    >>> len(personas.table), personas.rules.table.columns.tolist()[:2]
    (4, ['segment', 'condition'])
    """
    described = _Described(run, seed=run.parameters()["seed"])
    segments, actions = described.tables["segments"], _find_actions(described)
    tables = _card_tables(described, actions)
    facts = _collect_facts(described, tables)
    personas = cards.write_personas(
        segments, facts=facts, signals=described.tables["signals"], rules=tables.rules, uses=described.uses
    )
    fact_table = facts_module.fact_table(facts)
    facts_module.verify(personas, fact_table)
    claims = check_claims(personas, fact_table, _raw_figures(described, tables), uses=described.uses)
    predictors = _compare_predictors(described)
    answer = text_result(
        headline=personas_report.personas_headline(personas, segments, claims=claims),
        bullets=personas_report.describe_reliability(segments, rules=tables.rules),
    )
    written = {**actions.tables, "rules": tables.rules, "unmet_needs": tables.unmet_needs, "topics": tables.topics}
    return Personas(
        personas,
        {**personas_report.persona_metrics(tables.rules, segments, predictors=predictors), **actions.metrics},
        html=answer.html,
        tables={"personas": personas, "facts": fact_table, "claims": claims, "comparison": predictors, **written},
        facts=tuple(facts),
        actions=actions,
        activity_levels=described.activity_levels[has_story(segments).to_numpy()],
        voice=read_voice(run.path.parent / VOICE_FILE),
        uses=described.uses or CANCEL in described.source.kinds,  # a contract has no next order
        vertical=described.vertical,
        categories=described.now.categories,
        not_to_send=names_not_to_send(run),
        segments=segments,
        claims=table_result(claims, name="claims"),
        **_persona_parts(described, personas, tables=tables, predictors=predictors),
    )


def _find_actions(described: _Described) -> Opportunities:
    """Find the opportunities, and show them."""
    run, opened, customers = described.run, described.source, described.customers
    things = run.table("need_things") if run.has("need_things") else None
    needs, offers = described.needs if things is not None else None, None
    if needs is not None:
        options = {"days": customers.days, "period": customers.period, "labels": opened.labels}
        offers = offerable_needs(needs, run.table("needs"), things, **options)
    situation = Situation(
        customers,
        read_training_windows(run),
        model_from_arrays(*run.load_model()),
        described.tables["segments"],
        described.segment.reindex(customers.index),
        needs=needs,
        offers=offers,
        uses=described.uses,
        in_money=described.in_money,
    )
    found = find_actions(
        situation,
        things=things,
        labels=opened.labels,
        tested=pool_readouts(run),
        currency=opened.currency,
    )
    names = described.tables["segments"].set_index("segment")["name"]
    return Opportunities(
        found.table,
        found.metrics,
        html=lambda: actions_report.render_actions(found.table, names=names, currency=opened.currency),
        tables={"actions": found.table, "action_parts": found.parts, "action_customers": found.customers},
        found=found,
    )


def _collect_facts(described: _Described, tables: CardTables) -> list[Fact]:
    """Collect what the cards may use."""
    return collect_facts(
        described.tables["segments"],
        customers=described.now,
        features=described.features,
        segment=described.segment,
        tables=tables,
        period=described.run.period,
        needs=described.needs,
        labels=described.source.labels,
        currency=described.source.currency,
    )


def _raw_figures(described: _Described, tables: CardTables) -> RawFigures:
    """Read the events of the source again, and sum them for the check of the cards."""
    run, opened, con = described.run, described.source, described.con
    needs, things = (run.table(name) if run.has(name) else None for name in ("needs", "need_things"))
    totals = customer_totals(
        sources.read_events(opened, con=con),
        con=con,
        customers=described.now.features.index,
        period=run.period,
        kinds=opened.kinds,
        things=things,
        words=described.needs is not None and described.needs.words,
        items=described.customers.days.items is not None,
    )
    people = sources.read_customers(opened, con=con)
    if people is not None:
        wanted = [name for name, role in opened.roles.items() if role in FEATURE_ROLES and name in people.columns]
        texts = {name: people[name].cast("string") for name in wanted if not people[name].type().is_numeric()}
        people = people.select("customer_id", *wanted).mutate(**texts).to_pandas().set_index("customer_id")
    return RawFigures(
        totals,
        segment=described.segment,
        segments=described.tables["segments"],
        period=run.period,
        needs=needs,
        things=things,
        people=people,
        tables={name: getattr(tables, name) for name in ("unmet_needs", "topics", "actions", "rules")},
        labels=opened.labels,
    )


def _card_tables(described: _Described, actions: Opportunities) -> CardTables:
    """Find what the cards are written from."""
    run, opened, segment, seed = described.run, described.source, described.segment, described.seed
    favourites = described.tables["favourites"]
    texts = customer_texts(sources.read_events(opened, con=described.con), period=run.period)
    bought = need_labels(favourites, labels=opened.labels)
    return CardTables(
        favourites=favourites,
        traits=segment_traits(described.features, segment),
        unmet_needs=unmet_needs(
            described.now,
            segment,
            axes=described.axes,
            needs=described.needs,
            named_needs=described.named_needs,
            sensitive=described.sensitive,
            seed=seed,
        ),
        topics=segment_topics(learn_topics(texts, seed=seed), segment, bought=bought),
        rules=_find_rules(described),
        actions=_best_actions(described, actions),
    )


def _best_actions(described: _Described, actions: Opportunities) -> pd.DataFrame:
    """Return the first opportunity of each segment, at the moment and through the channel of its own customers.

    An opportunity that segments share is at the moment of all of them, which need not be that of each.
    """
    rows = []
    for segment in described.tables["segments"]["segment"]:
        best = actions.best(segment)
        if best is None:
            continue
        own = {"segment": segment}
        if best["type"] != NONE:
            own |= actions.found.contact[segment] | _own_part(described, best, segment, actions=actions)
        if pd.isna(best["detectable"]):  # what a test would show is not known: true of all, so no news on a card
            own["test"] = None
        rows.append(best.to_dict() | own)
    return pd.DataFrame(rows, columns=[*actions.table.columns, *OWN_PART])


def _own_part(described: _Described, best: pd.Series, segment: str, *, actions: Opportunities) -> dict[str, object]:
    """Return what an opportunity is for one of its segments."""
    parts = actions.found.parts
    part = parts[(parts["action"] == best["action"]) & (parts["segment"] == segment)].iloc[0]
    members, rest = part["customers"], best["customers"] - part["customers"]
    known = members >= FLOOR and not 0 < rest < FLOOR  # a few would follow from the sum, which is shown
    own = {"own": members if known else np.nan, "rest": rest if known and rest else np.nan}
    if pd.notna(best["adopters"]):
        own["condition"] = condition_text(best)
    if best["type"] == CROSS_NEED:
        names = dict(zip(described.needs.ids, described.needs.names, strict=True))
        own |= {"limit": part["limit"], "peers": part["peers"]}
        own |= {"need_name": names[best["need"]], "spoken": spoken_offer(best["offer"])}
        if described.in_money:
            own |= {"spends_below": part["limit"], "per": per_stretch(described.run.period.horizon_days)}
    return own


def _find_rules(described: _Described) -> pd.DataFrame:
    train, test = split(len(described.segment), seed=described.seed)
    chosen = train | test
    plain = rule_features(described.now.select(chosen), needs=described.needs)
    masks = {"train": train[chosen], "test": test[chosen]}
    found = learn_rules(plain, described.segment[chosen], own=described.named_needs, **masks)
    return rules_table(found, labels=described.source.labels)


def _compare_predictors(described: _Described) -> pd.DataFrame:
    people = described.run.table("people") if described.run.has("people") else None
    shares = described.features.filter(like="needs: ").loc[described.now.features.index]
    groups = attribute_groups(people, roles=described.source.roles, seed=described.seed)
    needs = shares if len(shares.columns) else None
    return compare_predictors(described.now, described.segment, groups, needs=needs, seed=described.seed)


def _persona_parts(
    described: _Described,
    personas: pd.DataFrame,
    *,
    tables: CardTables,
    predictors: pd.DataFrame,
) -> Mapping[str, Result]:
    """Show what stands below the cards."""
    rules, traits = (
        tables.rules,
        tables.traits[tables.traits["block"] != "needs"],
    )  # those stand in a table of their own
    segments, needs, labels = described.tables["segments"], described.tables["favourites"], described.source.labels
    sentences = text_result(bullets=personas_report.describe_predictors(predictors))
    compared = table_result(
        predictors, name="comparison", shown=personas_report.format_predictors(predictors) if len(predictors) else None
    )
    return {
        "predictors": Result(
            predictors, html=lambda: stack(sentences, compared) if len(predictors) else sentences.html()
        ),
        "rules": table_result(
            rules, name="rules", shown=personas_report.format_rules(personas, rules) if len(rules) else None
        ),
        "needs": text_result(note=phrase(NO_NEEDS))
        if described.needs is None
        else table_result(
            needs,
            name="favourites",
            columns=titles("favourites") | USE_TITLES if described.uses else None,
            shown=personas_report.format_needs(needs, segments, labels=labels) if len(needs) else None,
        ),
        "traits": table_result(
            traits,
            name="signals",
            shown=segments_report.format_traits(traits, segments, labels=labels) if len(traits) else None,
            columns={name: phrase(title) for name, title in titles("signals").items()},
        ),
    }


@dataclass(frozen=True, repr=False, eq=False)
class Copy(Result):
    """Texts that may be sent to a segment, each checked against the facts."""

    def save(self, run: Run) -> None:
        """Write the texts into a run, and check every figure in them once more."""
        super().save(run)
        facts_module.verify(run.table("copy"), run.table("facts"), plain=COPY_METADATA)


def write_copy(personas: Personas, *, tone: str = "", llm_url: str = "", llm_model: str = "") -> Copy:
    """Write the copy for each segment: four lines in three tones, none of which two segments share.

    Parameters
    ----------
    personas
        Of ``write_personas``.
    tone
        The tone that comes first: "plain", "warm" or "brief"; empty for that of ``voice.yaml``, or plain.
    llm_url
        Endpoint of a model that writes the copy, with its key in SEGKIT_LLM_KEY; empty for the templates. What it
        writes passes the same check, or the template is used and the reason given.
    llm_model
        The model, as the endpoint names it.

    Examples
    --------
    >>> run = segkit.load_run(segkit.example_run())
    >>> copy = segkit.write_copy(segkit.write_personas(run), tone="brief")
    >>> copy.table["tone"].unique().tolist()
    ['brief', 'plain', 'warm']

    Raises
    ------
    InputError
        The tone is unknown.
    """
    writer = model_writer(llm_url, model=llm_model) if llm_url else None
    if tone and tone not in TONES:
        raise InputError(f"tone is {tone!r}: there are {', '.join(TONES)}. Give one of them.")
    parts = [part for part in CARD_PARTS if part in personas.table]
    cards_of = personas.table.set_index("segment")[parts].to_dict("index")
    table = copy_module.write_copy(
        personas.activity_levels,
        _facts_to_send(personas),
        uses=personas.uses,
        vertical=personas.vertical,
        voice=personas.voice.model_copy(update={"tone": tone} if tone else {}),
        writer=writer,
        names=personas.categories,
        withheld=personas.not_to_send,
        evidence={own: [text for text in texts.values() if text] for own, texts in cards_of.items()},
    )
    facts_module.verify(table, personas.tables["facts"], plain=COPY_METADATA)
    columns = {"segment": "Segment", "slot": "Part", "tone": "Tone", "text": "Text"}
    shown = table_result(table, name="copy", columns=columns)
    return Copy(table, html=shown.html, tables={"copy": table})


def _facts_to_send(personas: Personas) -> list[Fact]:
    """Return the facts without names that may not be sent, and without all that speaks of a need of such a name."""
    withheld = {f.segment for f in personas.facts if f.name == "need_name" and _is_withheld(f, personas)}
    return [
        f
        for f in personas.facts
        if not _is_withheld(f, personas) and not (f.segment in withheld and f.name.startswith(OF_NEED))
    ]


def _is_withheld(fact: Fact, personas: Personas) -> bool:
    return fact.text is not None and fact.text.lower() in personas.not_to_send
