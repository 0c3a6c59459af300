"""Cards are checked by a second path: raw events are summed again, and no changed card gets through."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from segkit.customers.days import build_days
from segkit.customers.features import CustomerData, Customers, customers_at
from segkit.customers.needs import need_shares, thing_table
from segkit.customers.profile import attribute_features
from segkit.data import sources
from segkit.personas.cards import CARD_PARTS, Sentence, evaluate, fact_scope, sentences, write_personas
from segkit.personas.claims import RawFigures, check_claims
from segkit.personas.evidence import CardTables, collect_facts
from segkit.personas.facts import FORMS_COLUMN, PLACEHOLDER, Fact, FactError, fact_table, with_forms
from segkit.personas.totals import _shares, customer_totals
from segkit.personas.traits import segment_favourites, segment_signals, segment_traits
from segkit.personas.uptake import horizon_amounts
from segkit.segments.fit import net_spend
from segkit.tables import check
from tests.personas.helpers import PERIOD, THINGS, drinks

MANY = int(os.environ.get("SEGKIT_EXAMPLES", "150"))  # false claims
KINDS = {"purchase": "customer", "return": "customer", "visit": "customer", "mail_sent": "company"}
SOURCE = """\
name: bar
timezone: UTC
currency: USD
kinds: {purchase: customer, return: customer, visit: customer, mail_sent: company}
events:
  - path: events.csv
    columns: {customer_id: who, timestamp: at, event: kind, event_id: id, order_id: number, amount: paid,
              category: what, discount: saved, quantity: pieces, private_label: own = 'yes', channel: through}
customers: {path: people.csv, columns: {customer_id: who, home: home}, roles: {home: demographic}}
"""
SEGMENTS = pd.DataFrame(
    {
        "segment": ["S01", "S02", "S03"],
        "name": ["Top: drinks", "Core: breakfast", "Light buyers"],
        "need": ["N01", "N02", None],
        "need_name": ["Drinks", "Breakfast", "no single need"],
        "macro_segment": "M1",
        "verdict": "reproducible",
        "stability": 0.8,
        "active_share_next": [0.99, 0.97, 0.8],
        "active_share_next_low": [0.95, 0.9, 0.7],
        "active_share_next_high": [1.0, 1.0, 0.9],
    }
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bar whose orders last for days, whose guests send things back, and whose file holds lines twice."""
    folder, rng = tmp_path_factory.mktemp("bar"), np.random.default_rng(4)
    rows, number = [], 0
    for guest in range(180):
        segment = guest % 3
        for _ in range(rng.poisson([26, 12, 5][segment]) + 2):
            number += 1
            day, order = pd.Timestamp("2017-06-01") + pd.Timedelta(days=int(rng.integers(0, 220))), f"o{number}"
            hour = int(rng.choice([9, 14, 20], p=[[0.1, 0.2, 0.7], [0.7, 0.2, 0.1], [0.3, 0.4, 0.3]][segment]))
            for _line in range(1 + rng.poisson(2)):
                late = pd.Timedelta(days=int(rng.choice([0, 0, 0, 2])))
                what = rng.choice(
                    THINGS, p=[[0.4, 0.2, 0.2, 0.1, 0.1], [0.05, 0.05, 0.1, 0.5, 0.3], [0.2] * 5][segment]
                )
                paid, saved = round(rng.lognormal(1.5, 0.5), 2), round(float(rng.random() < 0.3) * rng.random(), 2)
                kind = "purchase" if rng.random() < 0.95 else "return"
                own, through = ("yes" if rng.random() < 0.2 + 0.3 * segment else "no"), rng.choice(["web", "till"])
                line = (f"g{guest:03d}", day + late + pd.Timedelta(hours=hour), kind, order, what, paid, saved, 1)
                rows.append((*line, own, through))
        rows.append(
            (f"g{guest:03d}", pd.Timestamp("2017-10-10 09:00"), "mail_sent", None, None, None, None, None, None, None)
        )
        rows.append(
            (f"g{guest:03d}", pd.Timestamp("2017-11-11 19:00"), "visit", None, None, None, None, None, None, "web")
        )
    columns = ["who", "at", "kind", "number", "what", "paid", "saved", "pieces", "own", "through"]
    table = pd.DataFrame(rows, columns=columns)
    table["id"] = [f"e{i}" for i in range(len(table))]
    pd.concat([table, table.iloc[::50]]).to_csv(folder / "events.csv", index=False)
    homes = [("flat" if g % 3 == 0 or g % 5 == 0 else "house") for g in range(180)]
    pd.DataFrame({"who": [f"g{g:03d}" for g in range(150)], "home": homes[:150]}).to_csv(
        folder / "people.csv", index=False
    )
    (folder / "source.yaml").write_text(SOURCE, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def bar(folder: Path) -> tuple[pd.DataFrame, list[Fact], RawFigures, pd.DataFrame]:
    """Cards and facts of the first path, what the second one knows, and the features of the first."""
    source, con = sources.open_source(str(folder / "source.yaml")), sources.connect()
    events, people = sources.read_events(source, con=con), sources.read_customers(source, con=con)
    days = build_days(events.filter(events.day < PERIOD.as_of), kinds=source.kinds)
    customers = customers_at(days, period=PERIOD, kinds=source.kinds)
    now = customers.data
    attributes = attribute_features(people, roles=source.roles, index=now.features.index)
    features = now.features.join(attributes)
    segment = pd.Series([f"S{int(g[1:]) % 3 + 1:02d}" for g in features.index], index=features.index, name="segment")
    segments, needs = _sized(customers, segment), drinks()
    actions = _breakfast_offered(now, segment)
    favourites, traits = segment_favourites(now, segment, needs=needs), segment_traits(features, segment)
    tables = CardTables(favourites, traits=traits, actions=actions)
    about = {"tables": tables, "period": PERIOD, "needs": needs, "currency": "USD", "labels": {"TEA": "green tea"}}
    facts = collect_facts(segments, customers=now, features=features, segment=segment, **about)
    cards = write_personas(segments, facts=facts, signals=segment_signals(features, segment))
    things = thing_table(needs)
    totals = customer_totals(
        events, con=con, customers=features.index, period=PERIOD, kinds=source.kinds, things=things, words=False
    )
    raw = RawFigures(
        totals,
        segment=segment,
        segments=segments,
        period=PERIOD,
        needs=pd.DataFrame({"need": needs.ids, "name": needs.names}),
        things=things,
        people=people.to_pandas().set_index("customer_id"),
        tables={"actions": actions},
        labels={"TEA": "green tea"},
    )
    return cards, facts, raw, features


def _breakfast_offered(now: CustomerData, segment: pd.Series) -> pd.DataFrame:
    """Return the action of the first segment: breakfast, for those who spend less than 30 a quarter on it."""
    little = horizon_amounts(drinks(), now.things, rate=0.5)[:, 1] < 30.0
    own, others = (segment == "S01").to_numpy(), (segment == "S03").to_numpy()  # the second comes for breakfast
    row = {"segment": "S01", "type": "cross_need", "need": "N02", "title": "Offer breakfast", "customers": 99}
    row |= {"own": (little & own).sum(), "rest": 99 - (little & own).sum(), "peers": 1 - little[others].mean()}
    row |= {"need_name": "Breakfast", "spoken": "Eggs", "limit": 30.0, "spends_below": 30.0, "per": "a quarter"}
    return pd.DataFrame([row])


def _sized(customers: Customers, segment: pd.Series) -> pd.DataFrame:
    """Return the segments with sizes, revenue, and what was spent in the last horizon."""
    days = customers.days
    rows = days.rows.filter(days.rows.day >= PERIOD.last_horizon_start)
    spent = rows.mutate(net=rows.amount + rows.other_amount - rows.return_amount)
    spent = spent.group_by("customer_id").aggregate(net=spent.net.sum().cast("float64")).to_pandas()
    spent = spent.set_index("customer_id")["net"].reindex(customers.index).fillna(0.0)
    table = SEGMENTS.set_index("segment")
    table["customers"] = segment.value_counts()
    table["customer_share"] = table["customers"] / table["customers"].sum()
    table["revenue"] = net_spend(customers).groupby(segment).sum()
    table["revenue_share"] = table["revenue"] / table["revenue"].sum()
    table["spend_now"] = spent.groupby(segment).mean()
    for part, factor in (("", 1.05), ("_low", 0.9), ("_high", 1.3)):
        table[f"spend_next{part}"] = factor * table["spend_now"]
    return table.reset_index()


def test_both_paths_give_the_same_figures(bar: tuple) -> None:
    _cards, _facts, raw, features = bar
    table = raw.totals.customers
    same = [name for name in table if name in features]
    assert len(same) >= 20 and {"orders", "gap_days", "order_value", "stage_new", "weekend_share"} <= set(same)
    assert (table["spend"] < 0).any(), "revenue is net; the feature is never below zero"
    table = table.assign(spend=table["spend"].clip(lower=0))
    pd.testing.assert_frame_equal(table[same], features[same], check_names=False, check_dtype=False, rtol=1e-8)
    late = features["stage_cooling"] + features["stage_lapsed"]
    np.testing.assert_allclose(table["late_share"], late)
    channels = features[["channel_till_share", "channel_web_share"]]
    np.testing.assert_allclose(raw.totals.channels[["till", "web"]], channels, atol=1e-8)


@pytest.mark.parametrize("left_out", ["amount: paid", "order_id: number", "category: what", "channel: through"])
def test_both_paths_agree_where_a_source_lacks_a_column(left_out: str, folder: Path, tmp_path: Path) -> None:
    text = (
        SOURCE.replace(f"{left_out}, ", "")
        .replace(f", {left_out}", "")
        .replace("events.csv", str(folder / "events.csv"))
    )
    if "paid" in left_out:
        text = text.replace("discount: saved, ", "")
    (tmp_path / "source.yaml").write_text(text.split("customers: {path")[0], encoding="utf-8")
    source, con = sources.open_source(str(tmp_path / "source.yaml")), sources.connect()
    events = sources.read_events(source, con=con)
    days = build_days(events.filter(events.day < PERIOD.as_of), kinds=source.kinds)
    now = customers_at(days, period=PERIOD, kinds=source.kinds).data
    about = {"con": con, "customers": now.features.index, "period": PERIOD, "kinds": source.kinds}
    totals = customer_totals(events, **about, things=thing_table(drinks()))
    same = [name for name in totals.customers if name in now.features]
    assert len(same) >= 14 and ("spend" in same) is ("paid" not in left_out)
    table = totals.customers[same].apply(lambda column: column.clip(lower=0) if column.name == "spend" else column)
    pd.testing.assert_frame_equal(table, now.features[same], check_names=False, check_dtype=False, rtol=1e-8)
    shares = need_shares(drinks(), now)
    assert (totals.needs is None) is shares.empty is ("what" in left_out)
    if not shares.empty:
        np.testing.assert_allclose(totals.needs.matrix.toarray(), shares, atol=1e-8)


def test_each_sentence_of_a_card_is_checked_and_recorded(bar: tuple) -> None:
    cards, facts, raw, _features = bar
    text = cards.set_index("segment")
    assert text.loc["S01", "come_for"].startswith("80% of their spend goes on drinks (other customers: ")
    assert "above all green tea, " in text.loc["S01", "come_for"]
    assert text.loc["S03", "come_for"] == "" or text.loc["S03", "come_for"].startswith("No single need")
    assert (
        text.loc["S01", "next"].endswith(").") and "no clear change from October to December" in text.loc["S01", "next"]
    )
    assert " of them spend less than $30 a quarter on eggs; " in text.loc["S01", "do"]
    claims = check_claims(cards, fact_table(facts), raw)
    check(claims, name="claims")
    assert claims["holds"].all() and len(claims) >= 20 and set(claims["segment"]) == set(SEGMENTS["segment"])
    assert (claims.loc[claims["part"].isin(CARD_PARTS), "claim"] != "").all(), (
        "each sentence of a card claims something"
    )


def mutate(cards: pd.DataFrame, facts: list[Fact], *, kind: str, rng: np.random.Generator) -> tuple | None:
    """Return cards with something false in them, and their facts; None where the draw gave nothing false."""
    row = cards.iloc[int(rng.integers(len(cards)))]
    own, forms = row["segment"], json.loads(row[FORMS_COLUMN])
    parts = [part for part in CARD_PARTS if forms[part]]
    part = parts[int(rng.integers(len(parts)))]
    if kind == "sentence":
        scope = fact_scope(f for f in facts if f.segment == own)
        known = lambda each: scope.keys() >= set(PLACEHOLDER.findall(each.text))  # noqa: E731
        false = [s for place in sentences(part) for s in place if known(s) and not evaluate(s.claim, scope)]
        if not false:
            return None
        forms[part] = false[int(rng.integers(len(false)))].text
    else:
        used = [f for f in facts if f.segment == own and f.name in PLACEHOLDER.findall(" ".join(forms.values()))]
        used = [f for f in used if (f.text is None) == (kind == "figure")]
        fact = used[int(rng.integers(len(used)))]
        changed = _changed(fact, facts, rng=rng)
        if changed is None or changed.formatted() == fact.formatted():
            return None
        facts = [changed if f is fact else f for f in facts]
    rows = [{"segment": r["segment"], **(forms if r["segment"] == own else json.loads(r[FORMS_COLUMN]))}
            for r in cards.to_dict("records")]  # fmt: skip
    return with_forms(rows, facts), facts


def _changed(fact: Fact, facts: list[Fact], *, rng: np.random.Generator) -> Fact | None:
    """Change a figure by a little or a lot, or take the name from another fact."""
    if fact.text is None:
        by = rng.choice([0.5, 0.9, 0.97, 1.03, 1.1, 2.0])
        return replace(fact, value=fact.value * by if fact.value else 0.2)
    others = sorted({f.text for f in facts if f.text is not None and f.text != fact.text})
    return replace(fact, text=others[int(rng.integers(len(others)))]) if others else None


def no_false_claim_gets_through(bar: tuple, *, tries: int, seed: int) -> None:
    cards, facts, raw, _features = bar
    rng, made = np.random.default_rng(seed), 0
    while made < tries:
        mutated = mutate(cards, facts, kind=["figure", "sentence", "name"][made % 3], rng=rng)
        if mutated is None:
            continue
        made += 1
        with pytest.raises(FactError, match=r"S0\d: "):
            check_claims(mutated[0], fact_table(mutated[1]), raw)


def test_no_false_claim_gets_through(bar: tuple) -> None:
    no_false_claim_gets_through(bar, tries=30, seed=1)


@pytest.mark.slow
def test_none_of_many_false_claims_gets_through(bar: tuple) -> None:
    no_false_claim_gets_through(bar, tries=MANY, seed=2)


def test_the_message_names_segment_sentence_and_both_values(bar: tuple) -> None:
    cards, facts, raw, _features = bar
    changed = [replace(f, value=0.9) if f.name == "need_share" and f.segment == "S01" else f for f in facts]
    forms = [{"segment": r["segment"], **json.loads(r[FORMS_COLUMN])} for r in cards.to_dict("records")]
    with pytest.raises(
        FactError, match=r"S01: '{need_share} of their.*shows need_share as 90%, and raw events give 80%"
    ):
        check_claims(with_forms(forms, changed), fact_table(changed), raw)
    forms[0]["come_for"] = "Nobody has checked this."
    with pytest.raises(
        FactError, match=r"S01: 'Nobody has checked this\.' in 'come_for' is no sentence of cards\.yaml"
    ):
        check_claims(with_forms(forms, facts), fact_table(facts), raw)


def test_a_claim_with_an_unknown_figure_does_not_hold() -> None:
    assert not evaluate("need_share > 0.15", {}) and not evaluate("a < b", {"a": 1.0})
    assert Sentence("who", "{a} of them", claim="a > 0").holds({"a": 0.1})
    assert not Sentence("who", "{a} and {b}", claim="a > 0").holds({"a": 0.1})


def test_what_is_bought_counts_for_each_of_its_words_and_once_for_needs() -> None:
    bought = sparse.csr_array([[6.0, 4.0, 0.0], [0.0, 6.0, 4.0]])
    things = pd.DataFrame({"thing": ["red", "wine"], "need": ["N01", "N02"]})
    shares = _shares(bought, ["red wine", "cheese", "red"], things=things, words=True)
    assert np.allclose(shares["things"].matrix.toarray(), [[0.6, 0.6], [0.4, 0.0]])
    assert np.allclose(shares["needs"].matrix.toarray(), [[0.3, 0.3], [0.4, 0.0]])
