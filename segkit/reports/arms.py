"""The page of an experiment made anywhere: what each arm changed, for which customers, and how sure that is."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from segkit import __version__, templates
from segkit.data.arm_columns import BINARY, MONEY
from segkit.experiments.arms import Outcome
from segkit.experiments.effects import NO_HARM, NO_VERDICT, Effects
from segkit.experiments.estimate import Price
from segkit.format import capitalized, count, is_missing, money, number, percent, rate, rate_points, spread
from segkit.reports.html import figure_facts, table_facts
from segkit.reports.page_files import stylesheet
from segkit.reports.theme import (
    ACCENT,
    COLOURS,
    FAINT,
    INK,
    MARKERS,
    QUIET,
    WARN,
    label_left,
    many_panels,
    one_panel,
    style,
)
from segkit.reports.wording import ranged
from segkit.templates import text
from segkit.texts import phrase, spoken
from segkit.vocabulary import EVERYONE

VERDICT_COLOURS = {"scale": ACCENT, "go on": ACCENT, "stop": WARN}
VERDICT_WORDS = {"scale": "Scale", "go on": "Works", "stop": "Stop", "cannot tell": "Cannot tell"}
VERDICT_WORDS |= {NO_VERDICT: "No verdict", NO_HARM: "No harm shown"}
FLAG = re.compile(r"(?i)\d+|true|false|yes|no|[tfyn]")  # names of arms that say nothing alone
CHANGE, CHANGE_IN_RATE = "{kpi}, change per customer", "{kpi}, change in percentage points"
MOST_PANELS = 6  # of outcomes in a picture
MOST_SEGMENTS_DRAWN = 12  # the largest
MOST_TILES = 6


def value_form(outcome: Outcome, *, currency: str) -> Callable[[Any], str]:
    """Return how the mean of an outcome is written: a rate, an amount or a number."""
    if outcome.kind == BINARY:
        return rate
    return partial(money, currency=currency) if outcome.kind == MONEY else number


def lift_form(outcome: Outcome, *, currency: str) -> Callable[[Any], str]:
    """Return how a difference is written: with its sign, that of rates in percentage points."""
    form = _points if outcome.kind == BINARY else value_form(outcome, currency=currency)
    return lambda value: form(value) if is_missing(value) or value <= 0 or form(value) == form(0) else f"+{form(value)}"


def _points(value: float) -> str:
    shown = rate_points(value)
    return shown if is_missing(value) else f"{shown} {phrase('points')}"


def segment_label(segment: str, *, names: Mapping[str, str]) -> str:
    """Write a segment: its name with its id, or the value of the column that it is."""
    if segment == EVERYONE:
        return phrase("All customers")
    name = names.get(segment, "")
    return f"{name} ({segment})" if name and not FLAG.fullmatch(segment) else name or segment.strip()


def with_arm_names(effects: Effects) -> Effects:
    """Return a read-out for people: arms that are called 1 or true have the name of their column before it."""
    old = effects.experiment
    column = old.arm.name
    names = {arm: f"{column} {arm}" if FLAG.fullmatch(arm) else arm for arm in (old.control, *old.arms)}
    experiment = replace(
        old, arm=old.arm.map(names), control=names[old.control], arms=tuple(names[arm] for arm in old.arms)
    )
    checks = tuple(replace(one, facts=_renamed(one.facts, names=names)) for one in effects.checks)
    policy = effects.policy and replace(effects.policy, arms={s: names[a] for s, a in effects.policy.arms.items()})
    return replace(
        effects,
        experiment=experiment,
        table=effects.table.assign(arm=effects.table["arm"].map(names)),
        pairs=effects.pairs.assign(arm=effects.pairs["arm"].map(names), against=effects.pairs["against"].map(names)),
        checks=checks,
        policy=policy,
        orders={names[arm]: order for arm, order in effects.orders.items()},
        clear_share={names[arm]: share for arm, share in effects.clear_share.items()},
    )


def _renamed(facts: Mapping[str, Any], *, names: Mapping[str, str]) -> dict[str, Any]:
    """Rename the arms in the facts of a check."""
    found = {}
    for key, value in facts.items():
        by_arm = key in ("sizes", "shares")
        renamed = {names.get(arm, arm): one for arm, one in value.items()} if by_arm else value
        found[key] = names.get(value, value) if key in ("arm", "control") else renamed
    return found


def plot_arms(effects: Effects, *, currency: str = "") -> Figure:
    """Plot what each arm changed in each outcome, over all customers, with simultaneous 95 % intervals."""
    shown = effects.experiment.outcomes[:MOST_PANELS]
    table = effects.table[effects.table["segment"] == EVERYONE]
    arms = len(effects.experiment.arms)
    with style():
        figure, grid = many_panels(rows=len(shown), columns=1, height=len(shown) * (0.95 + 0.34 * arms))
        for axes, outcome in zip(grid[:, 0], shown, strict=True):
            rows = table[table["kpi"] == outcome.name].to_dict("records")
            place = np.arange(len(rows))[::-1]
            axes.axvline(0, color=INK, linewidth=0.9)
            for y, row in zip(place, rows, strict=True):
                colour = VERDICT_COLOURS.get(row["verdict"], QUIET)
                axes.plot([row["lift_low"], row["lift_high"]], [y, y], color=colour, linewidth=2)
                axes.plot([row["lift"]], [y], "o", color=colour, markersize=7)
                words, end = phrase(VERDICT_WORDS[row["verdict"]]), (max(row["lift_high"], 0), y)
                axes.annotate(words, end, (7, 0), textcoords="offset points", va="center", fontsize=8, color=colour)
            label_left(axes, place=place, words=pd.Series([row["arm"] for row in rows], dtype=object))
            axes.margins(x=0.16)
            axes.xaxis.set_major_locator(MaxNLocator(6))
            axes.xaxis.set_major_formatter(_axis_form(outcome, currency=currency))
            title = phrase(CHANGE_IN_RATE if outcome.kind == BINARY else CHANGE)
            axes.set_title(title.format(kpi=capitalized(outcome.name)), loc="left")
    return figure


def plot_segments(effects: Effects, *, names: Mapping[str, str], currency: str = "") -> Figure:
    """Plot what each arm changed in the largest segments, in the main outcome, with simultaneous 95 % intervals."""
    main, arms = effects.experiment.outcomes[0], effects.experiment.arms
    table = effects.table[(effects.table["kpi"] == main.name) & (effects.table["segment"] != EVERYONE)]
    sizes = table.groupby("segment")["control_customers"].max().sort_values(ascending=False, kind="stable")
    segments = list(sizes.index[:MOST_SEGMENTS_DRAWN])
    place = np.arange(len(segments))[::-1].astype(float)
    with style():
        figure, axes = one_panel(height=1.2 + len(segments) * (0.2 + 0.2 * len(arms)))
        axes.axvline(0, color=INK, linewidth=0.9)
        for number_of_arm, arm in enumerate(arms):
            rows = table[table["arm"] == arm].set_index("segment").reindex(segments)
            shift = 0.0 if len(arms) == 1 else 0.25 - 0.5 * number_of_arm / (len(arms) - 1)
            colour, marker = COLOURS[number_of_arm % len(COLOURS)], MARKERS[number_of_arm % len(MARKERS)]
            axes.hlines(place + shift, rows["lift_low"], rows["lift_high"], color=colour, linewidth=1.8)
            axes.plot(rows["lift"], place + shift, marker, color=colour, markersize=6, label=arm)
        label_left(axes, place=place, words=pd.Series([segment_label(one, names=names) for one in segments]))
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=min(len(arms), 4), fontsize=8)
        axes.margins(x=0.06)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(_axis_form(main, currency=currency))
        axes.set_xlabel(phrase("Change against {control}: {kpi}").format(
            control=effects.experiment.control, kpi=main.name
        ))  # fmt: skip
    return figure


def plot_order(effects: Effects, *, arm: str, currency: str = "") -> Figure:
    """Plot the gain of giving an arm to the most promising customers first, compared with a random choice."""
    curve, form = effects.orders[arm].curve, lift_form(effects.experiment.outcomes[0], currency=currency)
    with style():
        figure, axes = one_panel(height=3.0)
        axes.axhline(0, color=FAINT, linewidth=0.9)
        axes.plot(curve["share"], curve["by_lot"], color=QUIET, linestyle=(0, (4, 3)), label=phrase("at random"))
        axes.plot(curve["share"], curve["gain"], color=ACCENT, linewidth=2, label=phrase("the most promising first"))
        axes.legend(loc="upper left", fontsize=8)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: form(value)))
        axes.set_xlim(0, 1)
        axes.set_xlabel(phrase("Share of customers who get {arm}").format(arm=arm))
        axes.set_title(phrase("Gain per customer of the test"), loc="left")
    return figure


def format_arms(effects: Effects, *, currency: str = "") -> pd.DataFrame:
    """Format what each arm changed over all customers: a row for each outcome and arm."""
    rows = effects.table[effects.table["segment"] == EVERYONE].to_dict("records")
    kinds = {one.name: one for one in effects.experiment.outcomes}
    means = {name: value_form(one, currency=currency) for name, one in kinds.items()}
    lifts = {name: lift_form(one, currency=currency) for name, one in kinds.items()}
    return pd.DataFrame(
        {
            phrase("Outcome"): [capitalized(r["kpi"]) for r in rows],
            phrase("Arm"): [r["arm"] for r in rows],
            phrase("Customers"): [count(r["customers"]) for r in rows],
            phrase("Mean"): [means[r["kpi"]](r["mean"]) for r in rows],
            phrase("Mean of the control"): [means[r["kpi"]](r["control_mean"]) for r in rows],
            phrase("Change"): [
                ranged(r["lift"], r["lift_low"], r["lift_high"], form=lifts[r["kpi"]]) for r in rows
            ],
            phrase("In percent"): [_signed_share(r["relative"]) for r in rows],
            phrase("Verdict"): [phrase(VERDICT_WORDS[r["verdict"]]) for r in rows],
        }
    ).sort_values(phrase("Outcome"), key=lambda column: column.map(_places(kinds)), kind="stable")  # fmt: skip


def _places(names: Iterable[str]) -> dict[str, int]:
    return {capitalized(name): place for place, name in enumerate(names)}


def _signed_share(value: float | None) -> str:
    return percent(value) if is_missing(value) or value <= 0 else f"+{percent(value)}"


def format_segments(effects: Effects, *, names: Mapping[str, str], currency: str = "") -> pd.DataFrame:
    """Format what each arm changed in each segment: a row for each segment and arm, a column for each outcome."""
    table = effects.table[effects.table["segment"] != EVERYONE]
    forms = {one.name: lift_form(one, currency=currency) for one in effects.experiment.outcomes}
    cells = [ranged(r["lift"], r["lift_low"], r["lift_high"], form=forms[r["kpi"]]) for r in table.to_dict("records")]
    wide = table.assign(cell=cells).pivot(index=["segment", "arm"], columns="kpi", values="cell")
    sizes = table.groupby(["segment", "arm"])[["customers", "control_customers"]].max().loc[wide.index]
    shown = pd.DataFrame(
        {
            phrase("Segment"): [segment_label(segment, names=names) for segment, _ in wide.index],
            phrase("Arm"): [arm for _, arm in wide.index],
            phrase("Customers / control"): [
                f"{count(treated)} / {count(left)}" for treated, left in sizes.itertuples(index=False)
            ],
        }
    )
    for one in effects.experiment.outcomes:
        if one.name in wide:
            shown[capitalized(one.name)] = wide[one.name].fillna("–").to_numpy()
    return shown


def format_pairs(effects: Effects, *, currency: str = "") -> pd.DataFrame:
    """Format the arms against each other: a row for each pair, a column for each outcome."""
    forms = {one.name: lift_form(one, currency=currency) for one in effects.experiment.outcomes}
    pairs = effects.pairs
    cells = [ranged(r["lift"], r["lift_low"], r["lift_high"], form=forms[r["kpi"]]) for r in pairs.to_dict("records")]
    wide = pairs.assign(cell=cells).pivot(index=["arm", "against"], columns="kpi", values="cell")
    shown = pd.DataFrame({phrase("Arm"): [phrase("{arm} against {other}").format(arm=arm, other=other)
                                          for arm, other in wide.index]})  # fmt: skip
    for one in effects.experiment.outcomes:
        if one.name in wide:
            shown[capitalized(one.name)] = wide[one.name].fillna("–").to_numpy()
    return shown


def format_policy(effects: Effects, *, names: Mapping[str, str]) -> pd.DataFrame:
    """Format which arm to give to which segment."""
    sizes = effects.experiment.segment[effects.experiment.segment != ""].value_counts(normalize=True)
    chosen = effects.policy.arms
    return pd.DataFrame(
        {
            phrase("Segment"): [segment_label(one, names=names) for one in chosen],
            phrase("Share of customers"): [percent(sizes[one]) for one in chosen],
            phrase("Arm to give"): [
                phrase("none ({control})").format(control=arm) if arm == effects.experiment.control else arm
                for arm in chosen.values()
            ],
        }
    )


def effects_headline(effects: Effects, *, currency: str = "") -> str:
    """Summarise the verdicts on the main outcome in a sentence, or say why there is none."""
    experiment = effects.experiment
    main = experiment.outcomes[0]
    rows = effects.table[(effects.table["kpi"] == main.name) & (effects.table["segment"] == EVERYONE)]
    rows = rows.sort_values("lift", ascending=False, kind="stable").to_dict("records")
    failed = [check for check in effects.checks if check.withholds(main.name)]
    form = _points if main.kind == BINARY else value_form(main, currency=currency)
    found = [
        (
            r["arm"],
            r["verdict"],
            spread(r["lift"], r["lift_low"], r["lift_high"], form=form),
            _signed_share(r["relative"]),
        )
        for r in rows
    ]
    words = text(
        "arms", "headline", failed=failed[0] if failed else None, kpi=main.name, control=experiment.control,
        found={verdict: [one for one in found if one[1] == verdict] for verdict in VERDICT_WORDS},
        others=_clear_others(effects), per="" if main.kind == BINARY else text("arms", "per_customer"),
    )  # fmt: skip
    return capitalized(words)


def _clear_others(effects: Effects) -> list[tuple[str, list[str], list[str]]]:
    """List where other outcomes clearly rise or fall: "rise" or "fall", the arms, and the outcomes."""
    table = effects.table[(effects.table["segment"] == EVERYONE) & (effects.table["verdict"] != NO_VERDICT)]
    found: dict[tuple[str, ...], list[str]] = {}
    for outcome in effects.experiment.outcomes[1:]:
        rows = table[table["kpi"] == outcome.name]
        for direction, clear in (("rise", rows["lift_low"] > 0), ("fall", rows["lift_high"] < 0)):
            if clear.any() and not outcome.is_guard:
                found.setdefault((direction, *rows.loc[clear, "arm"]), []).append(outcome.name)
    return [(direction, arms, kpis) for (direction, *arms), kpis in found.items()]


def describe_guards(effects: Effects, *, currency: str = "") -> list[tuple[bool, str]]:
    """Describe each guardrail over all customers: whether it gets worse, and a sentence."""
    found = []
    for outcome in (one for one in effects.experiment.outcomes if one.is_guard):
        form = lift_form(outcome, currency=currency)
        rows = effects.table[(effects.table["kpi"] == outcome.name) & (effects.table["segment"] == EVERYONE)]
        worse = [
            (r["arm"], spread(r["lift"], r["lift_low"], r["lift_high"], form=form))
            for r in rows[rows["verdict"] == "stop"].to_dict("records")
        ]
        most = [
            (r["arm"], form(r["lift_high"])) for r in rows[rows["verdict"] == NO_HARM].to_dict("records")
        ]  # fmt: skip
        found.append((bool(worse), text("arms", "guard", kpi=outcome.name, worse=worse, most=most)))
    return found


def describe_response(effects: Effects, *, currency: str = "") -> list[str]:
    """Describe who responds: the least share of customers who do, in how many segments it is clear, and the order."""
    experiment, sentences = effects.experiment, []
    main = experiment.outcomes[0]
    binary = next((one for one in experiment.outcomes if one.kind == BINARY and not one.is_guard), None)
    whole = effects.table[effects.table["segment"] == EVERYONE]
    if binary is not None:
        clear = (whole["lift_low"] > 0) & (whole["verdict"] != NO_VERDICT)
        rows = whole[(whole["kpi"] == binary.name) & clear].to_dict("records")
        sentences += [text("arms", "least", arm=r["arm"], kpi=binary.name, low=rate(r["lift_low"])) for r in rows]
    if experiment.has_segments and effects.clear_share:
        shares = [(arm, percent(share)) for arm, share in effects.clear_share.items() if share > 0]
        sentences.append(text("arms", "clear_share", kpi=main.name, shares=shares))
    form = lift_form(main, currency=currency)
    sentences += [text("arms", "order", arm=arm, order=order, form=form) for arm, order in effects.orders.items()]
    return sentences


def describe_policy(effects: Effects, *, currency: str = "") -> str:
    """Describe what the choice of an arm for each segment is worth on customers that it was not made on."""
    found, experiment = effects.policy, effects.experiment
    form = lift_form(experiment.outcomes[0], currency=currency)
    shown = [spread(one.value, one.low, one.high, form=form) for one in (found.value, found.over_best)]
    arms = list(dict.fromkeys(found.arms.values()))
    return text(
        "arms", "policy", arms=arms, control=experiment.control, kpi=found.kpi, value=shown[0], over=shown[1],
        pays=found.over_best.low > 0, works=found.value.low > 0, net=found.is_net,
    )  # fmt: skip


def describe_pairs(effects: Effects) -> str:
    """Describe which arm does clearly better than another in the main outcome."""
    main = effects.experiment.outcomes[0]
    rows = effects.pairs[effects.pairs["kpi"] == main.name]
    better = [(r.arm, r.against) for r in rows[rows["lift_low"] > 0].itertuples()]
    better += [(r.against, r.arm) for r in rows[rows["lift_high"] < 0].itertuples()]
    return text("arms", "against", better=better, kpi=main.name)


def render_effects(
    effects: Effects, *, names: Mapping[str, str], price: Price, currency: str = "", planned: int | None = None
) -> str:
    """Render the page of an experiment as a whole HTML document.

    The verdict comes first, then what each arm changed, by segment, who responds, which arm for which segment, the
    arms against each other, how sure it is, and how the table was read.

    Parameters
    ----------
    names
        Segment -> its name; empty where segments are the values of a column.
    price
        Of a contact and of a unit of money.
    currency
        Of amounts, such as EUR.
    planned
        Customers that the experiment will have, while it still runs.
    """
    experiment = effects.experiment
    best = _best_order(effects)
    page = templates.html(
        "arms",
        "page",
        language=spoken(),
        label=experiment.label,
        headline_text=effects_headline(effects, currency=currency),
        tile_rows=_tiles(effects, currency=currency) if effects.orders else [],
        failed=[check for check in effects.checks if not check.passed and check.stops],
        guards=describe_guards(effects, currency=currency),
        arms=figure_facts(plot_arms(effects, currency=currency)),
        table=_table(format_arms(effects, currency=currency)),
        price=price,
        cost=money(price.contact_cost, currency=currency),
        segments=_segment_facts(effects, names=names, currency=currency) if effects.orders else None,
        response=describe_response(effects, currency=currency),
        order=figure_facts(plot_order(effects, arm=best, currency=currency)) if best else None,
        policy_text=describe_policy(effects, currency=currency) if effects.policy else "",
        policy_table=_table(format_policy(effects, names=names)) if _differs(effects) else None,
        pairs_text=describe_pairs(effects) if len(effects.pairs) else "",
        pairs=_table(format_pairs(effects, currency=currency)) if len(effects.pairs) else None,
        intervals=len(effects.table) + len(effects.pairs),
        planned=planned,
        customers=len(experiment.arm),
        checks=effects.checks,
        notes=experiment.notes,
        version=__version__,
        css=stylesheet("views") + stylesheet("page"),
    )
    return str(page)


def _table(table: pd.DataFrame) -> dict[str, Any]:
    """Prepare a table whose columns are headings as they are."""
    return table_facts(table, columns={str(name): str(name) for name in table})


def _axis_form(outcome: Outcome, *, currency: str) -> FuncFormatter:
    """Return how an axis of differences is written: that of rates in points, without the word."""
    form = lift_form(outcome, currency=currency)
    return FuncFormatter(lambda value, _: form(value).removesuffix(f" {phrase('points')}"))


def _tiles(effects: Effects, *, currency: str) -> list[tuple[str, str, str]]:
    """Collect the change in the main outcome for each arm."""
    main = effects.experiment.outcomes[0]
    form = lift_form(main, currency=currency)
    rows = effects.table[(effects.table["kpi"] == main.name) & (effects.table["segment"] == EVERYONE)]
    tiles = []
    for r in rows.head(MOST_TILES).to_dict("records"):
        verdict = phrase(VERDICT_WORDS[r["verdict"]])
        note = text("arms", "tile", verdict=verdict, low=r["lift_low"], high=r["lift_high"], form=form)
        tiles.append((f"{r['arm']}: {main.name}", form(r["lift"]), note))
    return tiles


def _segment_facts(effects: Effects, *, names: Mapping[str, str], currency: str) -> dict[str, Any] | None:
    """Prepare the picture and the table of segments; None where there are none."""
    if not (effects.table["segment"] != EVERYONE).any():
        return None
    return {
        "figure": figure_facts(plot_segments(effects, names=names, currency=currency)),
        "table": _table(format_segments(effects, names=names, currency=currency)),
        "drawn": min(effects.table["segment"].nunique() - 1, MOST_SEGMENTS_DRAWN),
        "all": effects.table["segment"].nunique() - 1,
    }


def _differs(effects: Effects) -> bool:
    """Return whether segments are given different arms."""
    return effects.policy is not None and len(set(effects.policy.arms.values())) > 1


def _best_order(effects: Effects) -> str:
    """Choose the arm whose order of customers clearly gains most; "" where none gains."""
    gains = {arm: order.value for arm, order in effects.orders.items() if order is not None and order.low > 0}
    return max(gains, key=gains.get) if gains else ""


def effects_json(
    effects: Effects, *, price: Price, currency: str, planned: int | None, fingerprint: str
) -> dict[str, Any]:
    """Collect a read-out for JSON."""
    experiment = effects.experiment
    policy = effects.policy
    return {
        "table": experiment.label,
        "fingerprint": fingerprint,
        "customers": len(experiment.arm),
        "control": experiment.control,
        "arms": list(experiment.arms),
        "outcomes": [asdict(one) for one in experiment.outcomes],
        "covariates": list(experiment.before),
        "planned": planned,
        "currency": currency,
        "contact_cost": price.contact_cost,
        "margin": price.margin,
        "checks": [asdict(one) for one in effects.checks],
        "effects": effects.table.to_dict("records"),
        "pairs": effects.pairs.to_dict("records"),
        "policy": None if policy is None else asdict(policy),
        "qini": {
            arm: None if one is None else {"value": one.value, "low": one.low, "high": one.high}
            for arm, one in effects.orders.items()
        },
        "clear_share": effects.clear_share,
        "notes": [asdict(one) for one in experiment.notes],
    }
