"""What the page of the refresh says: sentences and tables of moves, drift and decisions, computed from the run."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from segkit.actions.refresh import Standing
from segkit.numbers import NOTHING, by_unit, count, interval, is_missing, number, points, score, share
from segkit.pages.story import CAUSES
from segkit.small_groups import FLOOR, is_few, shown, shown_counts
from segkit.templates import text
from segkit.vocabulary import EVERYONE

FIRST_RUN = "There is no earlier run of this source, so nothing is held against it. The next run will say what moved."
DECIDED = ("keep", "refit", "look")  # of a run
KPI_WORDS = {"spend": "Spend", "orders": "Orders", "active": "Customers who came"}


def headline(found: Standing, moves: pd.DataFrame, drift: pd.DataFrame) -> str:
    """The decision and what moved, in a sentence."""
    stayed, of = stayed_standing(moves)
    far = int(((drift["what"] == "feature") & (drift["verdict"] == "large")).sum())
    features = int((drift["what"] == "feature").sum())
    return text(
        "refresh",
        "headline",
        decision=found.decision,
        since=found.since,
        stayed=stayed,
        customers=of,
        far=far,
        features=features,
    )


def decided(decisions: pd.DataFrame | None, *, as_of: str) -> list[str]:
    """What the refresh decided of this run and of campaigns, a sentence each; nothing at a first run.

    Takes  the table decisions, or None where the run has none
    """
    if decisions is None:
        return []
    rows = decisions[(decisions["as_of"] == as_of) & (decisions["scope"] != "segment")]
    named = {row["decision"]: [] for row in rows.to_dict("records")}
    for row in rows.to_dict("records"):
        named[row["decision"]].append(row["segment"])
    run = rows.loc[rows["scope"] == "run", "decision"]
    sentences = [text("refresh", "decided", decision=one) for one in run if one in DECIDED]
    others = {name: of for name, of in named.items() if name not in DECIDED}
    return sentences + [f"{name.capitalize()}: {', '.join(sorted(of))}." for name, of in sorted(others.items())]


def stayed_standing(moves: pd.DataFrame) -> tuple[float, int]:
    """Share of customers in both runs whom the standing definition puts where they were; how many they are."""
    both = moves[~moves["cause"].isin(["joined", "left"])]
    return (float((both["before"] == both["standing"]).mean()) if len(both) else float("nan")), len(both)


def tiles(found: Standing, moves: pd.DataFrame, drift: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Decision, customers who moved, drift beyond chance, and what came of what was expected."""
    both = moves[~moves["cause"].isin(["joined", "left"])]
    changed = int(both["cause"].isin(["customer", "both"]).sum())
    redefined = int(both["cause"].isin(["definition", "both"]).sum())
    joined, left = (int((moves["cause"] == cause).sum()) for cause in ("joined", "left"))
    features = drift[drift["what"] == "feature"]
    made = [
        ("Decision", found.decision.capitalize(), f"since {found.since}"),
        (
            "They changed",
            NOTHING if is_few(changed) else share(changed / max(len(both), 1)),
            f"{shown(changed)} customers by the standing definition",
        ),
    ]
    if redefined:
        part = NOTHING if is_few(redefined) else share(redefined / max(len(both), 1))
        made.append(("The definition changed", part, f"{shown(redefined)} customers"))
    made.append(("Came and went", f"{shown(joined)} / {shown(left)}", "joined; no longer active"))
    beyond = int(features["beyond"].sum())
    made.append(("Drift beyond chance", f"{beyond} of {len(features)}", "features; most of it small is no alarm"))
    return made


def to_do(found: Standing, decisions: pd.DataFrame, *, names: Mapping[str, str], acted: str) -> list[str]:
    """What to do, the most important first, a sentence each."""
    doing = acted if acted or found.decision == "keep" else None
    sentences = [text("refresh", "to_do", decision=found.decision, acted=doing)]
    sentences += list(found.tests.loc[found.tests["decision"] != "keep", "words"])
    campaigns = decisions[decisions["scope"] == "campaign"]
    order = {"start a pilot": 0, "stop": 1, "fell short": 2}
    for row in sorted(campaigns.to_dict("records"), key=lambda row: order.get(row["decision"], 3)):
        segment = _called(row["segment"], names=names)
        sentences.append(text("refresh", "campaign", decision=row["decision"], segment=segment, reason=row["reason"]))
    if campaigns.empty and found.decision != "look":
        sentences.append(text("refresh", "no_pilot"))
    for decision in ("look", "refit"):
        rows = decisions[(decisions["scope"] == "segment") & (decisions["decision"] == decision)]
        if len(rows):
            called = [_called(segment, names=names) for segment in rows["segment"]]
            sentences.append(text("refresh", "segments", decision=decision, segments=called))
    return sentences


def moves_said(moves: pd.DataFrame, *, names: Mapping[str, str], most: int = 3) -> list[str]:
    """The moves in words: how many for which reason, and the largest streams."""
    counts = moves["cause"].value_counts()
    counts = counts[[cause for cause in CAUSES if cause in counts]]
    cause_counts = zip(shown_counts(counts), counts.index, strict=True)
    sentences = [", ".join(f"{size} {CAUSES[cause]}" for size, cause in cause_counts) + "."]
    moved = moves.dropna(subset=["before", "standing"])
    moved = moved[moved["before"] != moved["standing"]]
    for (source, into), size in _largest(moved, "before", "standing", most=most):
        back = int(((moved["before"] == into) & (moved["standing"] == source)).sum())
        way = {"source": _called(source, names=names), "into": _called(into, names=names)}
        sentences.append(text("refresh", "changed", customers=size, back=back, **way))
    taken = moves.dropna(subset=["standing", "after"])
    taken = taken[taken["standing"] != taken["after"]]
    for (source, into), size in _largest(taken, "standing", "after", most=most):
        way = {"source": _called(source, names=names), "into": _called(into, names=names)}
        sentences.append(text("refresh", "redefined", customers=size, **way))
    return sentences


def tests_shown(tests: pd.DataFrame) -> pd.DataFrame:
    """The tests of the run as text."""
    return pd.DataFrame(
        {
            "Test": tests["words"],
            "Found [95 %]": [_test_figure(row) for row in tests.to_dict("records")],
            "Limit": [_test_value(row["limit"], of=row["measure"]) for row in tests.to_dict("records")],
            "Says": tests["decision"],
        }
    )


def promises_shown(promises: pd.DataFrame, *, names: Mapping[str, str]) -> pd.DataFrame:
    """What was expected and came, as text; per customer."""
    rows = promises.to_dict("records")
    return pd.DataFrame(
        {
            "Segment": [_called(r["segment"], names=names) for r in rows],
            "Of": [KPI_WORDS[r["kpi"]] for r in rows],
            "Predicted [95 %]": [_range(r, "predicted") for r in rows],
            "Observed [95 %]": [_range(r, "observed") for r in rows],
            "Part that came, against all [95 %]": [
                NOTHING
                if is_missing(r["against_all"])
                else interval(r["against_all"], r["against_all_low"], r["against_all_high"], form=points)
                for r in rows
            ],
            "Verdict": [r["verdict"] for r in rows],
        }
    )


def promises_caption(promises: pd.DataFrame) -> str:
    """Which part of the horizon is over."""
    if promises.empty:
        return ""
    return text("refresh", "promises_caption", part=promises["part"].iloc[0], days=promises["days"].iloc[0])


def segments_shown(decisions: pd.DataFrame, *, names: Mapping[str, str]) -> pd.DataFrame:
    """The decision on each segment, those that ask for something first."""
    rows = decisions[decisions["scope"] == "segment"]
    rows = rows.assign(order=rows["decision"] == "keep").sort_values(["order", "segment"])
    return pd.DataFrame(
        {
            "Segment": [_called(s, names=names) for s in rows["segment"]],
            "Decision": rows["decision"],
            "Reason": rows["reason"],
        }
    )


def changes_shown(changes: pd.DataFrame) -> pd.DataFrame:
    """What changed in each persona, as text."""
    rows = changes.to_dict("records")
    form = share if (changes["kpi"] == "active rate").any() else number
    return pd.DataFrame(
        {
            "Segment": [f"{r['segment']} {r['name']}" for r in rows],
            "Became": [r["became"] for r in rows],
            "Customers": [f"{shown(r['customers_before'])} → {shown(r['customers_after'])}" for r in rows],
            "Then [95 %]": [_side(r, "kpi_before", form=form) for r in rows],
            "Now [95 %]": [_side(r, "kpi_after", form=form) for r in rows],
            "What changed": [r["words"] for r in rows],
        }
    )


def log_shown(decisions: pd.DataFrame) -> pd.DataFrame:
    """The log, latest run first: its decisions on runs and campaigns."""
    rows = decisions[decisions["scope"] != "segment"].sort_values("as_of", ascending=False, kind="stable")
    return rows[["as_of", "segment", "decision", "reason", "acted"]].rename(
        columns={"as_of": "Run", "segment": "Of", "decision": "Decision", "reason": "Reason", "acted": "Done by itself"}
    )


def _side(row: Mapping[str, Any], name: str, *, form: Callable[[Any], str]) -> str:
    return interval(row[name], row[f"{name}_low"], row[f"{name}_high"], form=form)


def _range(row: Mapping[str, Any], name: str) -> str:
    return interval(row[name], row[f"{name}_low"], row[f"{name}_high"], form=by_unit(row["unit"]))


def _test_figure(row: Mapping[str, Any]) -> str:
    shown = _test_value(row["value"], of=row["measure"])
    if is_missing(row["low"]):
        return shown
    return f"{shown} [{_test_value(row['low'], of=row['measure'])}, {_test_value(row['high'], of=row['measure'])}]"


def _test_value(value: float, *, of: str) -> str:
    if of.startswith(("share", "customers in")):
        return share(value)
    return score(value) if of.startswith("change") else count(value)


def _largest(moves: pd.DataFrame, source: str, into: str, *, most: int) -> list[tuple[tuple[str, str], int]]:
    sizes = moves.groupby([source, into]).size()
    return sorted(sizes[sizes >= FLOOR].items(), key=lambda one: (-one[1], one[0]))[:most]


def _called(segment: str, *, names: Mapping[str, str]) -> str:
    return "All customers" if segment == EVERYONE else f"{segment} {names.get(segment, '')}".strip()
