"""Collect the facts of each segment, and check that every figure in a text is one."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import pandas as pd

from segkit import format as fmt
from segkit.customers.profile import FEATURE_ROLES
from segkit.errors import SegkitError
from segkit.format import FLOOR, joined
from segkit.personas.naming import MAX_NEED_TERMS, label, need_labels
from segkit.personas.rules import share_units
from segkit.vocabulary import describe

PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")
NUMBER_WORDS = re.compile(
    r"\b(two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(thir|four|fif|six|seven|eigh|nine)teen|"
    r"(twen|thir|for|fif|six|seven|eigh|nine)ty|dozens?|hundreds?|thousands?|millions?|billions?|half|halves|"
    r"(third|quarter|fourth|fifth|sixth|seventh|eighth|ninth|tenth)s?|double|triple|twice|thrice|percent|per cent)\b|%",
    re.IGNORECASE,
)
CURRENCY = re.compile(r"[A-Z]{3}")
CURRENCY_SIGNS = {"USD": "$", "GBP": "£", "EUR": "€"}
TINY_BELOW = 0.1  # fine shares below are shown with two significant figures
FACT_COLUMNS = ["fact", "segment", "value", "text", "unit", "how"]
FORMS_COLUMN = "forms"  # in a table of texts: JSON of column -> the text with its placeholders


class FactError(SegkitError):
    """A text holds a figure that is not a fact, or uses a fact that does not exist."""


@dataclass(frozen=True)
class Fact:
    """A figure (``value`` in its ``unit``) or a name (``text``) that a text may use; ``how`` it was computed."""

    name: str
    segment: str
    value: float | None
    unit: str
    how: str
    text: str | None = None

    def formatted(self) -> str:
        """Format the figure for people, by its unit; a name is returned unchanged."""
        if self.text is not None:
            return self.text
        if CURRENCY.fullmatch(self.unit) and not fmt.is_missing(self.value):
            return f"{CURRENCY_SIGNS.get(self.unit, self.unit + fmt.SPACE)}{fmt.number(self.value)}"
        return UNIT_FORMS.get(self.unit, fmt.number)(self.value)


def _format_fine_share(value: float | None) -> str:
    """Format a share below a tenth with two significant figures.

    >>> _format_fine_share(0.00042), _format_fine_share(0.0), _format_fine_share(0.24)
    ('0.042\\xa0%', '0\\xa0%', '24\\xa0%')
    """
    if fmt.is_missing(value) or value >= TINY_BELOW or value <= 0:
        return fmt.share(value)
    return f"{float(f'{100 * value:.2g}'):.10f}".rstrip("0") + f"{fmt.SPACE}%"


UNIT_FORMS = {  # every other unit is shown as a number
    "share": fmt.share,
    "fine share": _format_fine_share,
    "customers": fmt.count,
    "ratio": fmt.score,
    "score": fmt.score,
}


def fact_table(facts: Iterable[Fact]) -> pd.DataFrame:
    """Return the facts as the table of a run: fact (segment.name), segment, value, text, unit, how."""
    rows = [(f"{f.segment}.{f.name}", f.segment, f.value, f.text, f.unit, f.how) for f in facts]
    table = pd.DataFrame(rows, columns=FACT_COLUMNS).astype({"value": float, "text": object})
    return table.sort_values("fact", ignore_index=True)


def facts_from_table(table: pd.DataFrame) -> list[Fact]:
    """Read the facts from the table of a run."""
    return [
        Fact(
            name=row["fact"].partition(".")[2],
            segment=row["segment"],
            value=None if pd.isna(row["value"]) else float(row["value"]),
            unit=row["unit"],
            how=row["how"],
            text=None if pd.isna(row["text"]) else str(row["text"]),
        )
        for row in table.to_dict("records")
    ]


def render(template: str, facts: Iterable[Fact], *, segment: str) -> str:
    """Fill the placeholders of a text with the facts of one segment.

    Parameters
    ----------
    template
        Text with {placeholders}.
    facts
        Facts of any segments.
    segment
        Segment whose facts are used.

    Raises
    ------
    FactError
        A digit, a number word or a brace is outside a placeholder, or the segment has no fact of that name.
    """
    loose = loose_figures(template)
    if loose:
        raise FactError(f"{segment}: the text '{template}' holds {loose} outside a placeholder. Make it a fact.")
    own = {f.name: f for f in facts if f.segment == segment}
    missing = sorted({name for name in PLACEHOLDER.findall(template) if name not in own})
    if missing:
        raise FactError(f"{segment}: no fact {missing} for the text '{template}'. Collect it, or change the text.")
    return PLACEHOLDER.sub(lambda match: own[match.group(1)].formatted(), template)


def loose_figures(template: str) -> list[str]:
    """List digits, number words and braces outside placeholders."""
    outside = PLACEHOLDER.sub("", template)
    loose = [sign for sign in outside if sign.isnumeric() or sign in "{}"]
    return loose + [match.group(0) for match in NUMBER_WORDS.finditer(outside)]


def with_forms(texts: Iterable[Mapping[str, str]], facts: Iterable[Fact]) -> pd.DataFrame:
    """Fill in texts, and store their forms next to them so that `verify` can check them.

    Parameters
    ----------
    texts
        For each row: ``segment``, and columns of text with placeholders.
    facts
        Facts of all segments.

    Returns
    -------
    DataFrame
        ``segment``, the columns filled in, and ``forms`` (JSON).
    """
    facts = list(facts)
    rows = []
    for row in texts:
        forms = {name: form for name, form in row.items() if name != "segment"}
        filled = {name: render(form, facts, segment=row["segment"]) for name, form in forms.items()}
        rows.append({"segment": row["segment"], **filled, FORMS_COLUMN: json.dumps(forms, sort_keys=True)})
    return pd.DataFrame(rows)


def verify(texts: pd.DataFrame, facts: pd.DataFrame, *, plain: Iterable[str] = ()) -> None:
    """Derive every text again from its form and the facts, and compare.

    Parameters
    ----------
    texts
        As returned by `with_forms` and stored in a run.
    facts
        The table of facts of the run.
    plain
        Columns without figures or forms, such as who wrote the text.

    Raises
    ------
    FactError
        A text has no form, or differs from its facts.
    """
    facts_by_segment: dict[str, list[Fact]] = {}
    for fact in facts_from_table(facts):
        facts_by_segment.setdefault(fact.segment, []).append(fact)
    unchecked = {"segment", FORMS_COLUMN, *plain}
    for row in texts.to_dict("records"):
        segment, forms = row["segment"], json.loads(row[FORMS_COLUMN])
        for name in (column for column in row if column not in unchecked):
            if name not in forms:
                raise FactError(
                    f"{segment}: the text '{name}' has no form, so its figures cannot be traced. Run again."
                )
            expected = render(forms[name], facts_by_segment.get(segment, []), segment=segment)
            if expected != row[name]:
                raise FactError(f"{segment}: '{name}' is '{row[name]}', by its facts '{expected}'. Run again.")


MIN_TRAIT_EFFECT = 0.3  # standard deviations; weaker traits are not worth a sentence
MIN_NEED_RATIO = 1.25  # a need group must have this many times the share that it has among other customers
MAX_BUYER_SHARE = 0.6  # of members; what more of them already buy is no idea for an offer
SEGMENT_FACTS = {  # column of the table segments -> unit, and how it was computed
    "customers": ("customers", "members of the segment"),
    "customer_share": ("share", "members / everyone segmented"),
    "revenue_share": ("share", "their spend in the lookback / all spend in it"),
    "margin": ("share", "(amount - cost) / amount of their purchases in the last horizon"),
    "stability": ("score", "mean Jaccard with the best match in refits"),
    "spend_now": ("money", "mean spend of the members in the last horizon"),
    **{
        f"active_share_next{part}": ("share", f"active in the horizon after standing here one horizon ago{end}")
        for part, end in (("", ""), ("_low", ", 95 % low"), ("_high", ", 95 % high"))
    },
    **{
        f"spend_next{part}": ("money", f"mean spend in the horizon after standing here one horizon ago{end}")
        for part, end in (("", ""), ("_low", ", 95 % low"), ("_high", ", 95 % high"))
    },
}
MEMBER_FACTS = (
    *("orders", "active_days", "gap_days", "recency_days", "order_value", "lines_per_order", "line_value"),
    *("weekend_share", "evening_share", "morning_share", "afternoon_share", "night_share"),
    *("discount_share", "private_label_share", "return_share", "categories"),
    *("stage_new", "stage_active", "stage_cooling", "stage_lapsed", "stage_returned"),
)
BY_MEDIAN = ("gap_days", "recency_days")  # one visit means a gap as long as the lookback: the mean would mislead
ROW_FACTS = {  # table of CardTables -> column -> (fact, unit, how)
    "unmet_needs": {
        "peers": ("lack_peers", "share", "customers of other segments nearest in the space, who buy it"),
        "buyers": ("lack_buyers", "share", "members who buy it, those who did not choose it"),
        "difference": ("lack_gap", "share", "the difference, members in pairs with their peers"),
        "difference_low": ("lack_low", "share", "95 % low"),
        "difference_high": ("lack_high", "share", "95 % high"),
    },
    "topics": {
        "share": ("topic_share", "share", "members who wrote, and wrote of it"),
        "others": ("topic_others", "share", "the same for everyone else"),
        "writers": ("topic_writers", "customers", "members who wrote anything in the lookback"),
    },
}
ROW_NAMES = {"unmet_needs": ("term", "lack"), "topics": ("topic", "topic")}  # table -> column with a name, its fact


@dataclass(frozen=True)
class CardTables:
    """The tables behind the cards, each with a column segment; None where a step has not made one."""

    needs: pd.DataFrame
    top_differences: pd.DataFrame | None = None
    traits: pd.DataFrame | None = None
    unmet_needs: pd.DataFrame | None = None
    topics: pd.DataFrame | None = None
    rules: pd.DataFrame | None = None


def collect_facts(
    segments: pd.DataFrame,
    *,
    features: pd.DataFrame,
    segment: pd.Series,
    tables: CardTables,
    horizon_days: int,
    labels: Mapping[str, str] | None = None,
    currency: str = "",
) -> list[Fact]:
    """Collect every figure and every name that a card may use.

    Parameters
    ----------
    segments
        The segment table so far.
    features, segment
        Features and segment id by ``customer_id``.
    tables
        What else is known about the segments.
    horizon_days
        Length of the forecast.
    labels
        Category -> label.
    currency
        Three letters, for all amounts of money; "" where unknown.

    Returns
    -------
    list of Fact
        Named within their segment; unknown figures are left out.
    """
    facts = _segment_facts(segments, horizon_days=horizon_days) + _member_facts(features, segment)
    facts += _need_facts(tables.needs, labels=labels)
    facts += _difference_facts(tables.top_differences) + _trait_facts(tables.traits, features, segment, labels=labels)
    facts += _row_facts(tables.unmet_needs, "unmet_needs", labels=labels) + _row_facts(tables.topics, "topics")
    facts += _rule_facts(tables.rules)
    known = [f for f in facts if f.text is not None or not pd.isna(f.value)]
    return [replace(f, unit=currency) if f.unit == "money" and currency else f for f in known]


def _segment_facts(segments: pd.DataFrame, *, horizon_days: int) -> list[Fact]:
    """Collect the figures, name and need of each segment from the segment table."""
    facts = []
    for row in segments.to_dict("records"):
        own = row["segment"]
        facts += [Fact(name, own, row[name], *about) for name, about in SEGMENT_FACTS.items() if name in row]
        facts.append(Fact("horizon", own, horizon_days, "days", "the horizon of the run"))
        for name in ("name", "need_name"):
            if name in row:
                facts.append(Fact(name, own, None, "name", f"{name} in the table segments", text=row[name]))
    return facts


def _member_facts(features: pd.DataFrame, segment: pd.Series) -> list[Fact]:
    """Collect habits of members and of other customers, lifecycle stages, and the channel used most."""
    members = features.loc[segment.index]
    channels = [n for n in members if n.startswith("channel_") and n.endswith("_share")]
    facts = []
    for own in sorted(set(segment)):
        inside = segment.eq(own).to_numpy()
        for name in [n for n in MEMBER_FACTS if n in members]:
            take = "median" if name in BY_MEDIAN else "mean"
            unit = "share" if name.startswith("stage_") else describe(name).unit
            value, others = (float(getattr(members.loc[rows, name], take)()) for rows in (inside, ~inside))
            facts.append(Fact(name, own, value, unit, f"{take} of {name} over the members"))
            facts.append(Fact(f"{name}_others", own, others, unit, f"{take} of {name} over everyone else"))
        if channels:
            top = members.loc[inside, channels].mean().round(9).idxmax()
            words = top.removeprefix("channel_").removesuffix("_share").replace("_", " ")
            facts.append(Fact("channel", own, None, "name", "the channel with most of their visits", text=words))
            for part, rows in (("", inside), ("_others", ~inside)):
                about = f"mean of {top} over {'everyone else' if part else 'the members'}"
                facts.append(Fact(f"channel_share{part}", own, float(members.loc[rows, top].mean()), "share", about))
    return facts


def _need_facts(needs: pd.DataFrame, *, labels: Mapping[str, str] | None) -> list[Fact]:
    """Collect the strongest needs of each segment, and one to offer next."""
    facts = []
    for own, terms in need_labels(needs, labels=labels).items():
        rows = needs[needs["segment"] == own]
        rows = rows.assign(label=[label(term, labels=labels) for term in rows["term"]]).drop_duplicates("label")
        how = "what members over-buy, by effect size"
        facts.append(Fact("need_list", own, None, "name", how, text=joined(terms[:MAX_NEED_TERMS])))
        for number, row in enumerate(rows.head(MAX_NEED_TERMS).to_dict("records"), start=1):
            ranked, text = f"{how}: number {number}", row["label"]
            unit = share_units([row["share"]], [row["others"]])[0]
            facts += [
                Fact(f"need_{number}", own, None, "name", ranked, text=text),
                Fact(f"need_{number}_cap", own, None, "name", ranked, text=text[:1].upper() + text[1:]),
                Fact(f"need_{number}_share", own, row["share"], unit, "mean share of it in what members bought"),
                Fact(f"need_{number}_others", own, row["others"], unit, "the same for everyone else"),
                Fact(f"need_{number}_buyers", own, row["buyers"], "share", "members who bought it"),
            ]
        rest = rows.iloc[1:]
        if len(rest):
            ideas = pd.concat([rest[rest["buyers"] <= MAX_BUYER_SHARE], rest])
            how = "of what the segment over-buys, the first that many members do not buy yet"
            facts.append(Fact("add_need", own, None, "name", how, text=ideas.iloc[0]["label"]))
    return facts


def _difference_facts(differences: pd.DataFrame | None) -> list[Fact]:
    """Collect the top differences of each segment."""
    facts = []
    for row in differences.to_dict("records") if differences is not None else []:
        name, own, how = f"bar_{row['bar']}", row["segment"], "one of the largest differences from everyone else"
        facts += [
            Fact(name, own, None, "name", how, text=row["words"]),
            Fact(f"{name}_value", own, row["value"], row["unit"], f"mean over the members: {row['words']}"),
            Fact(f"{name}_others", own, row["others"], row["unit"], f"mean over everyone else: {row['words']}"),
        ]
    return facts


def _trait_facts(
    traits: pd.DataFrame | None, features: pd.DataFrame, segment: pd.Series, *, labels: Mapping[str, str] | None
) -> list[Fact]:
    """Collect the strongest need group of each segment, and its traits where enough members have attributes."""
    if traits is None:
        return []
    lower = {category.lower(): words for category, words in (labels or {}).items()}
    missing = features.loc[segment.index, [name for name in features if name.startswith("missing: ")]]
    has_attributes = missing.eq(0).any(axis=1)
    clear = traits[traits["effect"] >= MIN_TRAIT_EFFECT]
    facts = []
    for own in sorted(set(segment)):
        rows = clear[clear["segment"] == own]
        needs = rows[(rows["block"] == "needs") & (rows["value"] >= MIN_NEED_RATIO * rows["others"])].head(1)
        how = "the group of things bought together that is furthest above everyone else"
        for row in needs.to_dict("records"):
            words = joined(list(dict.fromkeys(lower.get(t) or label(t) for t in row["words"].split(", "))))
            facts += _fact_pair("behind", own, words, row, how=how)
        inside = segment.eq(own)
        count = int(has_attributes[inside].sum())
        if count >= FLOOR:
            facts.append(Fact("known", own, count, "customers", "members with attributes in the customer table"))
            facts.append(Fact("known_share", own, count / inside.sum(), "share", "the same / members"))
            for number, row in enumerate(rows[rows["block"].isin(FEATURE_ROLES)].head(2).to_dict("records"), start=1):
                words = row["words"].replace("_", " ")
                facts += _fact_pair(f"who_{number}", own, words, row, how="what is known of members, where it is known")
    return facts


def _fact_pair(name: str, segment: str, words: str, row: Mapping, *, how: str) -> list[Fact]:
    """Return a name, and its share in the segment and among other customers."""
    return [
        Fact(name, segment, None, "name", how, text=words),
        Fact(f"{name}_share", segment, row["value"], row["unit"], f"mean over the members: {words}"),
        Fact(f"{name}_others", segment, row["others"], row["unit"], f"mean over everyone else: {words}"),
    ]


def _row_facts(table: pd.DataFrame | None, name: str, *, labels: Mapping[str, str] | None = None) -> list[Fact]:
    """Collect the name and figures of a table with one row per segment."""
    column, fact = ROW_NAMES[name]
    facts = []
    for row in table.to_dict("records") if table is not None else []:
        text = label(row[column], labels=labels) if name == "unmet_needs" else row[column]
        facts.append(Fact(fact, row["segment"], None, "name", f"the first row of the table {name}", text=text))
        facts += [Fact(figure, row["segment"], row[c], unit, how) for c, (figure, unit, how) in ROW_FACTS[name].items()]
    return facts


def _rule_facts(rules: pd.DataFrame | None) -> list[Fact]:
    """Collect the conditions of each rule, its precision and its recall."""
    facts = []
    for row in rules.to_dict("records") if rules is not None else []:
        own, name = row["segment"], f"rule_{row['condition']}"
        facts.append(Fact(name, own, None, "name", "a figure that the rule looks at", text=row["words"]))
        facts.append(Fact(f"{name}_low", own, row["at_least"], row["unit"], "the rule's lower bound"))
        facts.append(Fact(f"{name}_high", own, row["below"], row["unit"], "the rule's upper bound, exclusive"))
        if row["condition"] == 1:
            for rate, how in (("precision", "of those it picks, members"), ("recall", "of the members, picked")):
                ends = (("", ""), ("_low", ", 95 % low"), ("_high", ", 95 % high"))
                facts += [
                    Fact(f"rule_{rate}{p}", own, row[rate + p], "share", f"{how}; on held-out customers{e}")
                    for p, e in ends
                ]
    return facts
