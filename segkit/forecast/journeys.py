"""Find what usually comes next, and what comes before a need starts or a customer leaves, beyond chance.

Chance is what the same customer does anyway: the order of their visits at random, or their earlier visits. So habits
and favourites alone show nothing; only an order that repeats over customers does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import ibis
import numpy as np
import pandas as pd
from scipy import sparse
from scipy.special import ndtr

from segkit.customers.days import Days, count_column
from segkit.customers.features import Customers
from segkit.customers.needs import Needs, category_shares
from segkit.format import FLOOR
from segkit.stats import discoveries, hash_sample

ALL = "all"
NEXT, START, LEAVE = "next", "start", "leave"  # what a row is about
FIRST, LAST = "first", "last"  # touch of the window
WINDOW_DAYS = 28  # before a need starts or a customer leaves
MOST_CUSTOMERS = 10_000  # that are read
FALSE_SHARE = 0.05  # of the rows that may be a fluke
LEAST_LEAD, LEAST_RATIO = 0.02, 1.1  # of the observed share over chance
Z95 = 1.96
COLUMNS = ["about", "segment", "touch", "before", "after", "customers", "of", "share", "share_low", "share_high"]
COLUMNS += ["expected"]


@dataclass(frozen=True)
class _Visits:
    """Hold the days of customers with anything done by them or to them, sorted by customer and day.

    Parameters
    ----------
    who, day
        Number of the customer, and days since 1970.
    own
        Whether the customer did something.
    need
        Number of the need that leads that day, or -1.
    touched
        Days x labels: needs, then kinds of event other than purchases.
    labels
        Id of the need, or kind of event.
    """

    who: np.ndarray
    day: np.ndarray
    own: np.ndarray
    need: np.ndarray
    touched: np.ndarray
    labels: tuple[str, ...]


def find_journeys(customers: Customers, *, needs: Needs | None, segment: pd.Series) -> pd.DataFrame:
    """Find orders of visits that repeat over customers beyond chance.

    Three questions: which need comes next after another, if it is another one (``next``); what was the first or last
    touch in the four weeks before a need starts (``start``), and before the last visit of a customer who then stays
    away for a horizon, that visit included (``leave``). A touch is a visit for a need, or a kind of event other than a
    purchase. Chance is the same customer: any order of their visits, or their earlier visits.

    Parameters
    ----------
    customers
        With days from one horizon before the lookback on.
    needs
        None where no needs stand out: only kinds of event are looked at.
    segment
        Segment by customer_id.

    Returns
    -------
    pd.DataFrame
        about, segment (or all), touch (first or last; empty for next), before, after (ids of needs, or kinds of event;
        after is empty for leave), customers (20 or more), of (all with such a visit), share of visits, with the 95 %
        interval, and expected (by chance). Only rows above chance at a false discovery rate of 5 % in each question.
    """
    visits, code, names = _read_visits(customers, needs=needs, segment=segment)
    if not len(visits.who):
        return pd.DataFrame(columns=COLUMNS)
    horizon, as_of = customers.period.horizon_days, _number(customers.period.as_of)
    rows = [
        *_next_rows(visits, code=code, names=names),
        *_start_rows(visits, code=code, names=names, after_days=horizon),
        *_leave_rows(visits, code=code, names=names, before=as_of - horizon),
    ]
    table = pd.DataFrame(rows, columns=[*COLUMNS, "p"])
    table["lead"] = lead = table["share"] - table["expected"]
    clear = table.groupby("about")["p"].transform(lambda p: discoveries(p.to_numpy(dtype=float), share=FALSE_SHARE))
    clear = clear.astype(bool) & (table["customers"] >= FLOOR)  # rows of fewer count as tests, or only luck would
    table = table[clear & (lead >= LEAST_LEAD) & (table["share"] >= LEAST_RATIO * table["expected"])]
    order = _without_remainders(table).sort_values(
        ["about", "segment", "lead", "touch", "before", "after"], ascending=[True, True, False, True, True, True]
    )
    return order[COLUMNS].reset_index(drop=True)


def _number(day: object) -> int:
    return int(np.datetime64(day, "D").astype(int))


def _read_visits(
    customers: Customers, *, needs: Needs | None, segment: pd.Series
) -> tuple[_Visits, np.ndarray, list[str]]:
    """Read the days of a sample of the customers; return them, the segment number of each customer, and the ids."""
    ids = segment.sort_index().index[hash_sample(segment.sort_index().index, most=MOST_CUSTOMERS)]
    code, names = pd.factorize(segment.reindex(ids), sort=True)
    period, kinds = customers.period, sorted(kind for kind in customers.kinds if kind != "purchase")
    start = period.lookback_start - timedelta(days=period.horizon_days)
    rows = customers.days.rows
    rows = rows.filter((rows.day >= ibis.literal(start)) & (rows.day < ibis.literal(period.as_of)))
    counts = {kind: (rows[count_column(kind)] > 0).any() for kind in kinds if count_column(kind) in rows.columns}
    days = rows.group_by("customer_id", "day").aggregate(own=(rows.own_events > 0).any(), **counts).to_pandas()
    days["who"] = ids.get_indexer(days["customer_id"])
    days["day"] = pd.to_datetime(days["day"]).to_numpy().astype("datetime64[D]").astype(int)
    days = days[days["who"] >= 0].sort_values(["who", "day"], ignore_index=True)
    days["need"] = _leading_need(customers.days, days, ids=ids, needs=needs, start=start)
    need_ids = () if needs is None else needs.ids
    led = days["need"].to_numpy()[:, None] == np.arange(len(need_ids))
    touched = np.hstack([led, days[list(counts)].fillna(False).to_numpy(dtype=bool)])
    own = days["own"].fillna(False).to_numpy(dtype=bool)
    columns = (days["who"].to_numpy(), days["day"].to_numpy(), own, days["need"].to_numpy())
    return _Visits(*columns, touched, (*need_ids, *counts)), code, list(names)


def _leading_need(days: Days, table: pd.DataFrame, *, ids: pd.Index, needs: Needs | None, start: object) -> np.ndarray:
    """Return the number of the need with most weight on each day of a customer; -1 where there is none."""
    things = days.things
    if needs is None or things is None:
        return np.full(len(table), -1)
    names = sorted(things.select("category").distinct().to_pandas()["category"].dropna())
    share = category_shares(needs, names)
    known = share.max(axis=1) > 0
    led = pd.DataFrame({"thing": np.array(names, dtype=object)[known], "need": share.argmax(axis=1)[known]})
    if led.empty:
        return np.full(len(table), -1)
    inside = things.filter(things.day >= ibis.literal(start))
    known_things = ibis.memtable(led)
    joined = inside.inner_join(known_things, inside.category == known_things.thing)
    weight = joined.amount if "amount" in joined.columns else joined.lines
    sums = joined.group_by("customer_id", "day", "need").aggregate(weight=weight.sum().cast("float64")).to_pandas()
    sums["who"] = ids.get_indexer(sums["customer_id"])
    sums["day"] = pd.to_datetime(sums["day"]).to_numpy().astype("datetime64[D]").astype(int)
    sums = sums[sums["who"] >= 0].sort_values(["who", "day", "weight", "need"], ascending=[True, True, False, True])
    first = sums.drop_duplicates(["who", "day"])
    found = table[["who", "day"]].merge(first[["who", "day", "need"]], on=["who", "day"], how="left")["need"]
    return found.fillna(-1).to_numpy(dtype=int)


def _next_rows(visits: _Visits, *, code: np.ndarray, names: list[str]) -> Iterator[tuple]:
    """Compare each need that follows another with the same visits in any order.

    Only visits that are for something else than the one before: the same again is a habit, and its absence a rhythm.
    """
    led = visits.need >= 0
    who, need, number = visits.who[led], visits.need[led], int(visits.need.max(initial=-1)) + 1
    count = _counts(who, need, customers=len(code), things=number)
    total = count.sum(axis=1, keepdims=True)
    follows = (who[1:] == who[:-1]) & (need[1:] != need[:-1])
    customer, now, then = who[1:][follows], need[:-1][follows], need[1:][follows]
    for a in range(number):
        observed = _counts(customer[now == a], then[now == a], customers=len(code), things=number)
        after, others = observed.sum(axis=1, keepdims=True), total - count[:, [a]]
        chance = np.divide(count, others, out=np.zeros_like(count), where=others > 0)
        kept = [b for b in range(number) if b != a]
        about = [(NEXT, "", visits.labels[a], visits.labels[b]) for b in kept]
        yield from _rows(observed[:, kept], (after * chance)[:, kept], after, about=about, code=code, names=names)


def _counts(who: np.ndarray, thing: np.ndarray, *, customers: int, things: int) -> np.ndarray:
    """Count the rows of each customer and thing."""
    return np.bincount(who * things + thing, minlength=customers * things).reshape(customers, things).astype(float)


def _start_rows(visits: _Visits, *, code: np.ndarray, names: list[str], after_days: int) -> Iterator[tuple]:
    """Compare the touches before the first visit for a need with those before the customer's earlier visits."""
    own = np.flatnonzero(visits.own)
    who, begin = visits.who[own], _first_of(visits.who[own])
    for touch in (FIRST, LAST):
        touched, known = _touches(visits, own, touch=touch, include=False)
        past, count = _before(touched & known[:, None], begin), _before(known[:, None], begin)[:, 0]
        for b in sorted(set(visits.need[visits.need >= 0])):
            led = np.flatnonzero(visits.need[own] == b)
            led = led[np.unique(who[led], return_index=True)[1]]
            led = led[visits.day[own][led] >= visits.day[own][begin[led]] + after_days]
            cases = led[known[led] & (count[led] > 0)]
            yield from _touch_rows(
                touched, past, count, cases, who=who, about=(START, touch, visits.labels[b]), skip=b,
                labels=visits.labels, code=code, names=names,
            )  # fmt: skip


def _leave_rows(visits: _Visits, *, code: np.ndarray, names: list[str], before: int) -> Iterator[tuple]:
    """Compare the touches up to the last visit of customers who stayed away with those up to their earlier visits."""
    own = np.flatnonzero(visits.own)
    who, begin = visits.who[own], _first_of(visits.who[own])
    last = np.flatnonzero(np.r_[who[1:] != who[:-1], True]) if len(who) else np.zeros(0, dtype=int)
    last = last[visits.day[own][last] < before]
    for touch in (FIRST, LAST):
        touched, known = _touches(visits, own, touch=touch, include=True)
        past, count = _before(touched & known[:, None], begin), _before(known[:, None], begin)[:, 0]
        cases = last[known[last] & (count[last] > 0)]
        yield from _touch_rows(
            touched, past, count, cases, who=who, about=(LEAVE, touch, ""), skip=-1, labels=visits.labels, code=code,
            names=names,
        )  # fmt: skip


def _touch_rows(
    touched: np.ndarray,
    past: np.ndarray,
    count: np.ndarray,
    cases: np.ndarray,
    *,
    who: np.ndarray,
    about: tuple[str, str, str],
    skip: int,
    labels: tuple[str, ...],
    code: np.ndarray,
    names: list[str],
) -> Iterator[tuple]:
    """Compare each label at one visit of each customer with its share among their earlier visits."""
    kind, touch, after = about
    kept = [number for number in range(len(labels)) if number != skip]
    observed, expected, one = (np.zeros((len(code), width)) for width in (len(kept), len(kept), 1))
    observed[who[cases]] = touched[np.ix_(cases, kept)]  # one case of a customer
    expected[who[cases]] = past[np.ix_(cases, kept)] / count[cases, None]
    one[who[cases]] = 1
    about_each = [(kind, touch, labels[number], after) for number in kept]
    yield from _rows(observed, expected, one, about=about_each, code=code, names=names)


def _first_of(who: np.ndarray) -> np.ndarray:
    """Return the place of the first row of the same customer, for each row."""
    return np.searchsorted(who, who, side="left")


def _before(flags: np.ndarray, begin: np.ndarray) -> np.ndarray:
    """Count the flags in the earlier rows of the same customer, for each row."""
    sums = np.vstack([np.zeros((1, flags.shape[1])), np.cumsum(flags, axis=0)])
    return sums[:-1] - sums[begin]


def _touches(visits: _Visits, own: np.ndarray, *, touch: str, include: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of the first or last touched day in the window before visits, and whether there is one.

    `include`: the day of the visit belongs to the window.
    """
    days = np.flatnonzero(visits.touched.any(axis=1))
    if not len(days):
        return np.zeros((len(own), visits.touched.shape[1]), dtype=bool), np.zeros(len(own), dtype=bool)
    span = int(visits.day.max()) + 2 * WINDOW_DAYS
    key, at = visits.who[days] * span + visits.day[days], visits.who[own] * span + visits.day[own]
    low = np.searchsorted(key, at - WINDOW_DAYS + include, side="left")
    high = np.searchsorted(key, at + include, side="left")
    known = high > low
    place = np.clip(low if touch == FIRST else high - 1, 0, len(days) - 1)
    return visits.touched[days[place]], known


def _rows(
    observed: np.ndarray,
    expected: np.ndarray,
    visits: np.ndarray,
    *,
    about: list[tuple[str, str, str, str]],
    code: np.ndarray,
    names: list[str],
) -> Iterator[tuple]:
    """Yield a row for all customers and for each segment with enough of them, of each thing compared.

    By customer and thing: in how many visits it was observed, in how many by chance; and how many visits there were.
    """
    known = np.flatnonzero(code >= 0)  # all of them are the first group
    rows = np.concatenate([np.zeros(len(known), dtype=int), code[known] + 1])
    cells = np.ones(len(rows)), (rows, np.concatenate([known, known]))
    groups = sparse.csr_array(cells, shape=(len(names) + 1, len(code)))
    of, whole = (groups @ (visits > 0))[:, 0], (groups @ visits)[:, 0]
    enough = of >= FLOOR
    groups, of, whole = groups[enough], of[enough].astype(int), whole[enough, None]
    share, by_chance = groups @ observed / whole, groups @ expected / whole
    error = np.sqrt(groups @ np.square(observed - expected)) / whole  # customers are independent, visits are not
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(error > 0, ndtr((by_chance - share) / error), 1.0)
    low, high = np.maximum(share - Z95 * error, 0.0), np.minimum(share + Z95 * error, 1.0)
    customers = (groups @ (observed > 0)).astype(int)
    segments = np.array([ALL, *names], dtype=object)[enough]
    for column, (kind, touch, before, after) in enumerate(about):
        figures = [each[:, column].tolist() for each in (customers, share, low, high, by_chance, p)]
        for segment, asked, n, *others in zip(segments, of.tolist(), *figures, strict=True):
            yield (kind, segment, touch, before, after, n, asked, *others)


def _without_remainders(table: pd.DataFrame) -> pd.DataFrame:
    """Leave out the smallest segments of which fewer than the floor would be left after the shown ones."""
    kept = []
    for _, rows in table.groupby(["about", "touch", "before", "after"], sort=False):
        whole = rows[rows["segment"] == ALL]
        parts = rows[rows["segment"] != ALL].sort_values(["customers", "segment"], ascending=[False, True])
        total = int(whole["customers"].iloc[0]) if len(whole) else None
        while len(parts) and (total is None or total - parts["customers"].sum() < FLOOR):
            parts = parts.iloc[:-1]
        kept += [whole, parts]
    return pd.concat(kept) if kept else table
