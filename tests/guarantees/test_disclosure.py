"""Nobody can compute a hidden number of customers, or a mean of a few, from all that pages show.

An attacker collects every count, share and mean of random runs with small groups as linear constraints, with what
rounding leaves open, and solves for each hidden number.
"""

import html
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import LinearConstraint, milp

from segkit.forecast.offers import _strongest_offers
from segkit.format import FLOOR, about_count, share_of, suppressed_cells
from segkit.live.page import _net_text
from segkit.period import Period
from segkit.reports import experiments as experiments_report
from segkit.reports import overview as overview_report
from segkit.reports import refresh as refresh_report
from segkit.reports import segments as segments_report
from segkit.reports.agreement import FACT
from segkit.reports.html import segment_table_html
from segkit.reports.map import map_html, map_profile
from segkit.reports.matrix import matrix_html
from segkit.reports.wording import Wording
from segkit.segments.moves import CAUSES, customers_of_both

RUNS = int(os.environ.get("SEGKIT_DISCLOSURE_RUNS", "5"))
WORDS = Wording(Period.parse("2018-01-01", lookback_days=182, horizon_days=91))
STANDING: Any = type("Standing", (), {"decision": "keep", "since": "2024-01-01"})
DRIFT = pd.DataFrame(columns=["what", "beyond", "verdict"])
LEDGER = {"other": "", "customers_before": 0}
MOST = 100_000  # customers: more than any run here has
PINNED = 0.05  # of a mean: what an attacker may not know better


@dataclass
class Attacker:
    """What was published about unknown whole numbers: sums of them, each between two limits."""

    names: list[str]
    rows: list[dict[str, float]] = field(default_factory=list)
    limits: list[tuple[float, float]] = field(default_factory=list)

    def learn(self, sum_of: Iterable[str] | Mapping[str, float], low: float, high: float) -> None:
        self.rows.append(dict(sum_of) if isinstance(sum_of, Mapping) else dict.fromkeys(sum_of, 1.0))
        self.limits.append((low, high))

    def learn_text(self, sum_of: Iterable[str], shown: str) -> None:
        """Learn a number as a page shows it."""
        shown = shown.replace("customers", "").strip()
        about, digits = shown.startswith("about"), re.sub(r"[^\d]", "", shown)
        if shown.startswith("<"):
            self.learn(sum_of, 0, FLOOR - 1)
        elif about:
            self.learn(sum_of, int(digits) - 5, int(digits) + 5)
        elif digits:
            self.learn(sum_of, int(digits), int(digits))

    def ranges(self, wanted: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Solve for the smallest and the largest value that each number can have."""
        matrix = np.array([[row.get(name, 0.0) for name in self.names] for row in self.rows])
        low, high = np.array(self.limits, dtype=float).T
        found = {}
        for name in wanted:
            ends = []
            for sign in (1, -1):
                goal = np.array([sign * float(one == name) for one in self.names])
                solved = milp(
                    goal,
                    constraints=LinearConstraint(matrix, low - 1e-9, high + 1e-9),
                    integrality=np.ones(len(self.names)),
                    bounds=(0, MOST),
                )
                assert solved.status == 0, (solved.message, self.rows, self.limits)
                ends.append(round(float(solved.x[self.names.index(name)])))
            found[name] = (ends[0], ends[1])
        return found


def random_segments(rng: np.random.Generator, count: int) -> pd.DataFrame:
    """Segments of a pinned run, one or two of which may have shrunk below the floor."""
    sizes = rng.integers(FLOOR, 90, size=count)
    sizes[: rng.integers(1, 3)] = rng.integers(1, FLOOR, size=1)
    sizes = rng.permutation(sizes)
    spent = rng.lognormal(4, 1, size=count)
    active = rng.uniform(0.2, 0.95, size=count)
    return pd.DataFrame(
        {
            "segment": [f"S{number + 1:02d}" for number in range(count)],
            "name": [f"Segment {number + 1}" for number in range(count)],
            "macro_segment": [f"M{1 + number % 3}" for number in range(count)],
            "customers": sizes,
            "customer_share": sizes / sizes.sum(),
            "revenue": spent * sizes,
            "revenue_share": spent * sizes / (spent * sizes).sum(),
            "margin": np.nan,
            "orders": sizes * 3,
            **{f"stability{part}": 0.7 for part in ("", "_low", "_high")},
            "verdict": "reproducible",
            **{f"active_share_next{part}": active for part in ("", "_low", "_high")},
            **{f"spend_next{part}": spent for part in ("", "_low", "_high")},
            "spend_now": spent,
            "need": [f"N{1 + number % 4:02d}" for number in range(count)],
            "need_name": [f"need {1 + number % 4}" for number in range(count)],
            "action": "Ask why",
        }
    )


def placed(segments: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """The customers of segments on a plane, each segment around a place of its own."""
    own = np.repeat(segments["segment"].to_numpy(), segments["customers"])
    number = np.repeat(np.arange(len(segments)), segments["customers"])
    plane = rng.normal(size=(len(own), 2)) + np.column_stack([number % 4, number // 4])
    ids = [f"c{i:05d}" for i in range(len(own))]
    return pd.DataFrame({"customer_id": ids, "segment": own, "core": True, "x": plane[:, 0], "y": plane[:, 1]})


def pages_of(segments: pd.DataFrame, rng: np.random.Generator) -> dict[str, str]:
    """The pages that show sizes of segments, as HTML."""
    candidates = pd.DataFrame(
        {
            "segment": segments["segment"],
            "name": segments["name"],
            "customers": segments["customers"],
            **dict.fromkeys(
                ("smallest_share", "smallest_effect", "mean", "reachable", "weeks_needed", "size_needed"), 0.1
            ),
            **dict.fromkeys((f"share_{weeks}" for weeks in experiments_report.SHOWN_WEEKS), 0.1),
            "unit": "share",
        }
    )
    words = WORDS
    measured = experiments_report.format_candidates(candidates, words=words)
    ledger = segments.assign(as_of="2024-02-01", customers_after=segments["customers"], overlap=1.0, event="same")
    return {
        "segments": segment_table_html(segments),
        "matrix": matrix_html(segments),
        "measure": " ".join(str(cell) for cell in measured["Customers"]),
        "ledger": str(segments_report.format_ledger(ledger.assign(**LEDGER), segments, as_of="2024-02-01")),
    }


def sizes_shown(pages: Mapping[str, str]) -> dict[str, set[str]]:
    """Every text that pages show for the size of a segment."""
    found: dict[str, set[str]] = {}
    for text in pages.values():
        for name, shown in FACT.findall(text):
            if name.endswith(".customers"):
                found.setdefault(name.split(".")[0], set()).add(html.unescape(shown))
    return found


def solve_sizes(segments: pd.DataFrame, pages: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """What an attacker knows of the size of each hidden segment, from one run."""
    names = list(segments["segment"])
    attacker = Attacker(names)
    attacker.learn(names, segments["customers"].sum(), segments["customers"].sum())  # in the first tile
    shown = sizes_shown(pages)
    hidden = []
    for name in names:
        texts = shown[name]
        assert len(texts) == 1, (name, texts)
        text = next(iter(texts))
        attacker.learn([name], 1, MOST)
        attacker.learn_text([name], text)
        if not text.isdigit():
            hidden.append(name)
        if text == "hidden":
            attacker.learn([name], FLOOR, MOST)
    return attacker.ranges(hidden)


def check_sizes(run: int) -> None:
    rng = np.random.default_rng(run)
    segments = random_segments(rng, int(rng.integers(6, 14)))
    pages = pages_of(segments, rng)
    small = segments.loc[segments["customers"] < FLOOR, "segment"]
    ranges = solve_sizes(segments, pages)
    assert set(small) <= set(ranges)
    for name in small:
        low, high = ranges[name]
        assert low < high, (run, name, low, segments[["segment", "customers"]])
    levels = re.findall(r"([\d.]+)% of customers", pages["matrix"])
    open_levels = segments.groupby("macro_segment")["segment"].apply(lambda own: not set(own) & set(ranges)).sum()
    assert len(levels) == open_levels, "no level with a hidden segment has a sum"
    is_open = not set(segments.loc[segments["macro_segment"] == "M1", "segment"]) & set(ranges)
    named = segments.assign(level="Top " + segments["macro_segment"])
    assert ("brought in" in overview_report.overview_headline(named)) == is_open, "nor in the headline"
    amounts = [name for name, _ in FACT.findall(pages["segments"]) if re.search("spend|revenue|orders|margin", name)]
    assert not {name.split(".")[0] for name in amounts} & set(ranges), "no amount of a hidden segment"


def test_dots_of_a_hidden_segment_are_not_drawn() -> None:
    rng = np.random.default_rng(0)
    segments = random_segments(rng, 8)
    page = map_html(placed(segments, rng), segments, alt="A map")
    hides = set(segments["segment"][suppressed_cells(segments["customers"])])
    drawn = set(re.findall(r'"name":\s*"(S\d\d)"', page))
    assert hides and drawn == set(segments["segment"]) - hides


def check_moves(run: int) -> None:
    """Two runs: how many each has is known, so those who joined and left are."""
    rng = np.random.default_rng(run)
    sizes = rng.choice([0, 1, 3, 12, 19, 20, 25, 60, 300], size=len(CAUSES))
    sizes[0] += 50
    rows = [(cause, number) for cause, size in zip(CAUSES, sizes, strict=True) for number in range(size)]
    moves = pd.DataFrame(rows, columns=["cause", "number"])
    ends = {
        cause: ("S01" if cause != "joined" else None, "S01" if cause in ("stayed", "definition") else "S02")
        for cause in CAUSES
    }
    moves = moves.assign(before=[ends[c][0] for c in moves["cause"]], standing=[ends[c][1] for c in moves["cause"]])
    table = segments_report.format_moves(moves)
    attacker = Attacker(list(CAUSES))
    then, now = sum(sizes[[0, 1, 2, 3, 5]]), sum(sizes[[0, 1, 2, 3, 4]])
    attacker.learn([*CAUSES[:4], "left"], then, then)
    attacker.learn([*CAUSES[:4], "joined"], now, now)
    attacker.learn_text(CAUSES[:4], customers_of_both(moves))
    for cause, shown in zip(CAUSES, table["Customers"], strict=True):
        attacker.learn_text([cause], shown)
    tiles = {label: note for label, _, note in refresh_report.refresh_tiles(STANDING, moves, DRIFT)}
    attacker.learn_text(["customer", "both"], tiles["Customers who moved"])
    if "Moved by definition" in tiles:
        attacker.learn_text(["definition"], tiles["Moved by definition"])
    hidden = [c for c, s in zip(CAUSES, sizes, strict=True) if 0 < s < FLOOR]
    for cause, (low, high) in attacker.ranges(hidden).items():
        assert low < high, (run, cause, low, dict(zip(CAUSES, sizes, strict=True)), table)


def check_live(run: int) -> None:
    """The live page and the run: who came and who left is not known, nor what one customer did."""
    rng = np.random.default_rng(run)
    stay, joined, left = (int(n) for n in rng.choice([0, 1, 3, 8, 19, 21, 40, 75], size=3))
    stay += FLOOR
    attacker = Attacker(["stay", "joined", "left"])
    attacker.learn(["stay", "left"], stay + left, stay + left)
    attacker.learn_text(["stay", "joined"], "about " + about_count(stay + joined))
    attacker.learn_text(["joined"], _as_about(about_count(joined)))
    attacker.learn_text(["left"], _as_about(about_count(left)))
    change = _net_text(joined, left)
    if "[" in change:
        low, high = (int(n.replace("\u2212", "-")) for n in re.findall(r"[-\u2212]?\d+", change.split("[")[1]))
        turnover = ((high - low) / 2 / 1.96) ** 2  # what the width says
        attacker.learn(["joined", "left"], turnover - 10, turnover + 10)
    elif "net" not in change:
        middle = int(change.replace("about", "").replace("\u2212", "-"))
        attacker.learn({"joined": 1, "left": -1}, middle - 5, middle + 5)
    small = [name for name, size in (("joined", joined), ("left", left)) if size < FLOOR]
    for name, (low, high) in attacker.ranges(small).items():
        assert low < high, (run, name, low, stay, joined, left, change)


def check_means(run: int) -> None:
    """A segment less the neighbourhoods in it leaves nobody, and no neighbourhood averages a few."""
    rng = np.random.default_rng(run)
    segments = random_segments(rng, int(rng.integers(6, 14)))
    customers = placed(segments, rng)
    values = rng.lognormal(3, 1, size=len(customers))
    values[rng.random(len(values)) < 0.3] = np.nan
    features = pd.DataFrame({"order_value": values}, index=customers["customer_id"])
    profile = map_profile(customers, features)
    bins = profile.neighbourhood.to_numpy()
    hides = set(segments["segment"][suppressed_cells(segments["customers"])])
    home = customers["segment"].mask(customers["segment"].isin(hides), "hidden")
    assert (home.groupby(bins).nunique() == 1).all(), "each lies in one segment"
    known = pd.Series(~np.isnan(values)).groupby(bins).sum()
    shown = ~np.isnan(profile.means[:, 0])
    assert (known[shown] >= FLOOR).all(), "each mean is of twenty or more"
    rest = known[~shown].groupby(home.groupby(bins).first()[~shown]).sum()
    of_home = pd.Series(~np.isnan(values)).groupby(home.to_numpy()).sum()
    for own, size in rest.items():
        assert size >= FLOOR or size == 0 or of_home[own] == size, "what is left over is twenty or more"


@pytest.mark.parametrize("check", [check_sizes, check_moves, check_live, check_means])
def test_no_hidden_number_follows_from_what_is_shown(check: Callable[[int], None]) -> None:
    for run in range(RUNS):
        check(run)


@pytest.mark.slow
@pytest.mark.parametrize("check", [check_sizes, check_moves, check_live, check_means])
def test_no_hidden_number_follows_from_two_hundred_runs(check: Callable[[int], None]) -> None:
    for run in range(1000, 1200):
        check(run)


def test_the_attacker_finds_what_a_page_gives_away() -> None:
    attacker = Attacker(["S01", "S02"])
    attacker.learn(["S01", "S02"], 60, 60)
    attacker.learn_text(["S01"], "50")
    attacker.learn_text(["S02"], "<20")
    assert attacker.ranges(["S02"]) == {"S02": (10, 10)}


@pytest.mark.parametrize("customers", [20, 23, 31, 50, 99, 100, 150, 199, 200, 247, 1000])
def test_a_share_leaves_two_counts_open(customers: int) -> None:
    shown: dict[str, int] = {}
    for count in range(customers + 1):
        text = share_of(count / customers, customers)
        shown[text] = shown.get(text, 0) + 1
    assert min(shown.values()) > 1, {text: size for text, size in shown.items() if size == 1}


def test_no_offer_rests_on_a_few_buyers() -> None:
    members = np.arange(100) < 31
    asked = np.ones((100, 2), dtype=bool)
    took = np.column_stack([np.arange(100) < 1, np.arange(100) < 25])
    found = _strongest_offers(members, ["SOY SAUCE", "TEA"], asked, took, np.array([50, 50]), limit=0.05)
    assert [row[0] for row in found] == ["TEA"] and np.isnan(found[0][5]), "none of the others bought it"


def test_two_live_pages_a_moment_apart_seldom_differ_by_one_customer() -> None:
    pairs = [(about_count(size), about_count(size + 1)) for size in range(400)]
    assert np.mean([one != other for one, other in pairs]) < 0.11
    assert len({_net_text(40, left) for left in range(FLOOR)}) <= 3, "no interval tells how many left"


def _as_about(shown: str) -> str:
    return shown if shown.startswith("<") else f"about {shown}"
