"""Make up customers whose needs show in what they do, not in who they are, together with the ground truth."""

from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from segkit.data.spec import CONTRACT
from segkit.data.synth_columns import customer_source, draw_people
from segkit.errors import InputError

SCENARIOS = (
    *("retail", "saas", "media", "one_time", "no_structure", "clickstream", "subscription", "marketplace"),
    "customers_only",
)
START, DAYS = "2024-01-01", 425  # history; enough for the default lookback and two horizons
CAMPAIGN_DAY, CAMPAIGN_DAYS = 365, 28  # when the planted campaign is sent, and for how long it works
TREATED_SHARE = 0.5
OWN_CATEGORIES_SHARE = 0.75  # of a customer's lines that come from the categories of their need
MAX_VISITS = 20.0  # in 30 days without lift, so that no customer reaches the limit of one visit a day
FEEDBACK = {"event": "feedback", "share": 0.02, "own": 0.7}  # after a share of visits; of it the share on the need
SMALL_TALK = ("thank you", "all good", "could be better", "will come again", "not today", "see you soon", "as always")
WORLD = {  # what a scenario has unless it states another
    "lifecycles": {"steady": 0.7, "new": 0.1, "fading": 0.12, "gone": 0.08},
    "spread": 0.25,  # standard deviation of log visits between customers of one need
    "concentration": 60.0,  # larger makes customers of one need more alike (concentration of a Dirichlet)
    "channels": ["store", "online"],
    "feedback": FEEDBACK,
    "genres": 1,  # most categories of one event
    "steps": {},  # further events of a line, with the share of customers who go on to each
    "without": [],  # columns that the source lacks
    "usual": {},  # what its needs have in common
}
NEED = {"deals": 0.0, "own": 0.0, "lift": 0.0, "on": 1.0, "price": 1.0}  # what a need has unless it states another
PROFILED_SHARE = 0.8  # of customers whose profile is known
ITEMS = 12  # products in a category
CHUNK_CUSTOMERS = 2_000
ZONE = "Europe/Berlin"
FILES = ("source.yaml", "events.parquet", "customers.csv", "truth.parquet")
NOTE = "# Made by segkit synth. What was planted is in truth.parquet."  # first line of a source that may be overwritten


def write_scenario(scenario: str, *, customers: int = 2_000, out: str, seed: int = 7) -> str:
    """Write a made-up company: events, customers, a source for both, and the ground truth.

    Parameters
    ----------
    scenario
        retail (purchases with money), saas (product use, monthly invoices), media (several genres an event, no money),
        one_time (nearly all buy once), no_structure (all customers alike), clickstream (steps on which customers drop
        out), subscription (contracts paid monthly, and cancels), marketplace (visits, carts, orders, tickets) or
        customers_only (a table of customers with groups in its columns, and no events).
    customers
        Number of customers; at least one for each need or group.
    out
        Folder to write to; created if missing.

    Returns
    -------
    str
        Path of the source. In the same folder: events.parquet, customers.csv and truth.parquet with ``customer_id``,
        ``need``, ``lifecycle``, ``turn_day`` (from 0: new customers start, fading ones begin to fade, gone ones stop;
        once: the day of the only visit), ``visits_30_days``, ``treated`` (received the campaign), ``lift`` (share of
        extra visits that the campaign causes in its 28 days). Of customers_only there are no events, and the truth is
        ``customer_id`` and ``group``.

    Raises
    ------
    InputError
        No such scenario, fewer customers than needs, or a file in `out` that is not from here.
    """
    if scenario not in SCENARIOS:
        raise InputError(f"scenario {scenario!r} is unknown. Use one of: {', '.join(SCENARIOS)}.")
    world, rng = _world(scenario), np.random.default_rng(seed)
    planted = "groups" if "groups" in world else "needs"
    if customers < len(world[planted]):
        raise InputError(
            f"--customers {customers}: {scenario} has {len(world[planted])} {planted}, with a customer each. Give more."
        )
    if planted == "groups":
        people, truth = draw_people(world, customers=customers, rng=rng)
        described = customer_source(scenario, roles=world["roles"])
        return _write(described, tables={"customers.csv": people, "truth.parquet": truth}, out=Path(out))
    truth = draw_customers(world, customers=customers, rng=rng)
    parts = [
        _visits(world, truth.iloc[start : start + CHUNK_CUSTOMERS], rng=rng)
        for start in range(0, customers, CHUNK_CUSTOMERS)
    ]
    lines = pd.concat([part for pair in parts for part in pair], ignore_index=True)
    extra = [_campaign(truth)] if truth["lift"].any() else []
    if "contract" in world:
        extra.append(_contracts(world, truth, rng=rng) if "cancel" in world["contract"] else _invoices(world, truth))
    events = pd.concat([lines, *extra], ignore_index=True).sort_values(
        ["at", "customer", "event", "item"], kind="stable", ignore_index=True
    )
    events = events.drop(columns=[name for name in world["without"] if name in events])
    tables = {"events.parquet": events, "customers.csv": _people(world, truth, rng=rng)}
    tables["truth.parquet"] = truth.drop(columns="number").sort_values("customer_id", ignore_index=True)
    return _write(_source(scenario, world, events=events), tables=tables, out=Path(out))


def _world(scenario: str) -> dict:
    """Return what is planted in a scenario, with what it does not state as in most."""
    text = resources.files("segkit.data").joinpath("scenarios.yaml").read_text(encoding="utf-8")
    world = WORLD | yaml.safe_load(text)[scenario]
    if "groups" in world:
        return world
    return world | {"needs": [NEED | world["usual"] | need for need in world["needs"]]}


def draw_customers(world: dict, *, customers: int, rng: np.random.Generator) -> pd.DataFrame:
    """Draw need, lifecycle and treatment of each customer, independently of each other; one row per customer."""
    needs = pd.DataFrame(world["needs"])
    drawn = np.concatenate([np.arange(len(needs)), rng.integers(0, len(needs), customers - len(needs))])
    rng.shuffle(drawn)
    truth = pd.DataFrame({"customer_id": [f"C{n:06d}" for n in rng.permutation(customers)]})
    truth["need"], truth["number"] = needs["need"].to_numpy()[drawn], drawn
    cycles = world["lifecycles"]
    truth["lifecycle"] = rng.choice(list(cycles), size=customers, p=list(cycles.values()))
    truth["turn_day"] = rng.integers(DAYS // 3, DAYS - 90, customers)
    if "once" in cycles:
        truth["turn_day"] = truth["turn_day"].where(truth["lifecycle"] != "once", rng.integers(0, DAYS, customers))
    spread = np.exp(rng.normal(0, world["spread"], customers))
    truth["visits_30_days"] = np.minimum(needs["visits"].to_numpy()[drawn] * spread, MAX_VISITS)
    truth["treated"] = rng.random(customers) < TREATED_SHARE
    truth["lift"] = needs["lift"].to_numpy()[drawn]
    return truth


def _visits(world: dict, truth: pd.DataFrame, *, rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Draw the visits of some customers; return their lines, and the feedback written after a few of them."""
    days = np.arange(DAYS)
    in_campaign = (days >= CAMPAIGN_DAY) & (days < CAMPAIGN_DAY + CAMPAIGN_DAYS)
    campaign_factor = 1 + (truth["treated"] * truth["lift"]).to_numpy()[:, None] * in_campaign
    rate = truth["visits_30_days"].to_numpy()[:, None] / 30 * _lifecycle_rate(truth) * campaign_factor
    row, day = np.nonzero(rng.random(rate.shape) < rate)  # at most one visit a day, so that the lift is exact
    needs = pd.DataFrame(world["needs"]).iloc[truth["number"].to_numpy()[row]]
    minutes = np.clip(rng.normal(needs["hour"].to_numpy() * 60, 90), 0, 1439).astype(int)
    customer = truth["customer_id"].to_numpy()[row]
    visits = pd.DataFrame(
        {
            "customer": customer,
            "at": _timestamps(day, minutes),
            "order": [f"{c}-{d}" for c, d in zip(customer, day, strict=True)],
            "channel": np.where(rng.random(len(row)) < needs["online"].to_numpy(), *reversed(world["channels"])),
            "says": needs["says"].to_numpy(),
        }
    )
    writing = world["feedback"]
    written = visits[rng.random(len(visits)) < writing["share"]]
    small, own = rng.choice(SMALL_TALK, len(written)), rng.random(len(written)) < writing["own"]
    feedback = written[["customer", "at"]].assign(
        event=writing["event"], text=np.where(own, written["says"] + ", " + small, small)
    )
    return _lines(world, visits.drop(columns="says"), truth=truth, owner=row, rng=rng), feedback


def _lines(
    world: dict, visits: pd.DataFrame, *, truth: pd.DataFrame, owner: np.ndarray, rng: np.random.Generator
) -> pd.DataFrame:
    """Draw what is bought or used in each visit, one row per item and step; money for purchases only."""
    needs = pd.DataFrame(world["needs"]).iloc[truth["number"].to_numpy()]
    count = 1 + rng.poisson(needs["lines"].to_numpy()[owner] - 1)
    row = np.repeat(np.arange(len(visits)), count)
    owner = owner[row]
    names, weights = _weights(world, truth, rng=rng)
    picks = (rng.random(len(row))[:, None] > np.cumsum(weights, axis=1)[owner]).sum(axis=1).clip(0, len(names) - 1)
    items = np.minimum(rng.zipf(1.6, len(row)), ITEMS) - 1
    lines = visits.iloc[row].reset_index(drop=True).assign(event=world["event"], category=np.array(names)[picks])
    lines["item"] = [f"{pick:03d}-{item:02d}" for pick, item in zip(picks, items, strict=True)]
    lines = lines.assign(pick=picks, rank=items, owner=owner)
    if world["genres"] > 1:
        lines["category"] = _genres(world, lines, needs=needs, rng=rng)
    steps = [lines] if world["event"] != "purchase" else []
    bought = lines if world["event"] == "purchase" else lines.iloc[:0]
    for minute, (event, share) in enumerate(world["steps"].items(), start=1):
        lines = lines[rng.random(len(lines)) < share * needs["on"].to_numpy()[lines["owner"]]]
        lines = lines.assign(event=event, at=lines["at"] + pd.Timedelta(minutes=minute))
        if event == "purchase":
            bought = lines
        else:
            steps.append(lines)
    steps += [_with_money(bought, needs=needs, rng=rng)] if len(bought) else []
    return pd.concat(steps, ignore_index=True).drop(columns=["pick", "rank", "owner"])


def _genres(world: dict, lines: pd.DataFrame, *, needs: pd.DataFrame, rng: np.random.Generator) -> list[list[str]]:
    """Draw further categories of each line, of the same need."""
    own, owner = needs["categories"].tolist(), lines["owner"].to_numpy()
    more = rng.integers(0, world["genres"], len(lines))
    return [
        sorted({first, *rng.choice(own[i], n, replace=False)})
        for first, i, n in zip(lines["category"], owner, more, strict=True)
    ]


def _with_money(lines: pd.DataFrame, *, needs: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Draw quantity, own brand, deal and money of lines that were bought."""
    owner, picks, items = (lines[name].to_numpy() for name in ("owner", "pick", "rank"))
    quantity = 1 + rng.poisson(0.3, len(lines))
    own = rng.random(len(lines)) < needs["own"].to_numpy()[owner]
    deal = np.where(rng.random(len(lines)) < needs["deals"].to_numpy()[owner], 0.25, 0.0)
    full = (
        (1 + (picks * 7 % 11))
        * (1 + items / 20)
        * needs["price"].to_numpy()[owner]
        * np.where(own, 0.7, 1.0)
        * quantity
    )
    return lines.assign(
        quantity=quantity,
        private_label=own,
        amount=(full * (1 - deal)).round(2),
        discount=(full * deal).round(2),
        cost=(full * 0.7).round(2),
    )


def _weights(world: dict, truth: pd.DataFrame, *, rng: np.random.Generator) -> tuple[list[str], np.ndarray]:
    """Draw each customer's share of lines by category; return the names of the categories and the shares."""
    own = [category for need in world["needs"] for category in need["categories"]]
    names = list(dict.fromkeys([*own, *world["staples"]]))
    base = np.full((len(world["needs"]), len(names)), 0.02 / len(names))
    for number, need in enumerate(world["needs"]):
        base[number, [names.index(c) for c in need["categories"]]] += OWN_CATEGORIES_SHARE / len(need["categories"])
        base[number, [names.index(c) for c in world["staples"]]] += (0.98 - OWN_CATEGORIES_SHARE) / len(
            world["staples"]
        )
    drawn = rng.gamma(base[truth["number"].to_numpy()] * world["concentration"])
    return names, drawn / drawn.sum(axis=1, keepdims=True)


def _lifecycle_rate(truth: pd.DataFrame) -> np.ndarray:
    """Return the share of the usual visit rate that is left, by lifecycle (customers x days)."""
    day, kind = np.arange(DAYS), truth["lifecycle"].to_numpy()[:, None]
    turn = truth["turn_day"].to_numpy()[:, None]
    fading = np.where(day < turn, 1.0, np.exp(-(day - turn) / 90.0))
    return np.select(
        [kind == "new", kind == "fading", kind == "gone", kind == "once"],
        [(day >= turn) * 1.0, fading, (day < turn) * 1.0, np.where(day == turn, np.inf, 0.0)],
        1.0,
    )


def _campaign(truth: pd.DataFrame) -> pd.DataFrame:
    """Return the e-mails to treated customers, sent on the morning of the campaign's first day."""
    treated = truth.loc[truth["treated"], "customer_id"].to_numpy()
    at = _timestamps(np.full(len(treated), CAMPAIGN_DAY), np.full(len(treated), 60))
    return pd.DataFrame({"customer": treated, "at": at, "event": "email_sent", "campaign": "new year"})


def _invoices(world: dict, truth: pd.DataFrame) -> pd.DataFrame:
    """Return one invoice a month for each active subscriber, at the price of the plan of their need."""
    price = pd.DataFrame(world["needs"])["price"].to_numpy()[truth["number"].to_numpy()] * 20
    months = np.arange(29, DAYS, 30)
    row, month = np.nonzero(_lifecycle_rate(truth)[:, months] > 0)
    return pd.DataFrame(
        {
            "customer": truth["customer_id"].to_numpy()[row],
            "at": _timestamps(months[month], np.full(len(row), 120)),
            "event": "purchase",
            "order": [f"I{c}-{m}" for c, m in zip(row, month, strict=True)],
            "category": "subscription",
            "quantity": 1,
            "amount": price[row].round(2),
            "cost": (price[row] * 0.2).round(2),
        }
    )


def _contracts(world: dict, truth: pd.DataFrame, *, rng: np.random.Generator) -> pd.DataFrame:
    """Return the payments of each contract, and its cancel; a customer has several, of the services of their need."""
    needs = pd.DataFrame(world["needs"]).iloc[truth["number"].to_numpy()]
    names, weights = _weights(world, truth, rng=rng)
    row = np.repeat(np.arange(len(truth)), 1 + rng.poisson(needs["lines"] - 1))
    pick = (rng.random(len(row))[:, None] > np.cumsum(weights, axis=1)[row]).sum(axis=1).clip(0, len(names) - 1)
    held = pd.DataFrame({"row": row, "pick": pick}).drop_duplicates(ignore_index=True)
    row, pick = held["row"].to_numpy(), held["pick"].to_numpy()
    kind, turn = truth["lifecycle"].to_numpy()[row], truth["turn_day"].to_numpy()[row]
    every, phase = world["contract"]["every"], rng.integers(0, world["contract"]["every"], len(held))
    start = np.where(kind == "new", turn, 0)
    later = turn + rng.exponential(90.0, len(held)).astype(int)
    end = np.select([kind == "gone", kind == "fading"], [turn, later], DAYS)
    due = phase[:, None] + np.arange(0, DAYS, every)
    paid, month = np.nonzero((due >= start[:, None]) & (due < np.minimum(end, DAYS)[:, None]))
    ended = np.flatnonzero(end < DAYS)
    at, who = np.concatenate([due[paid, month], end[ended]]), np.concatenate([paid, ended])
    price = (needs["price"].to_numpy()[row] * (3 + pick * 7 % 11)).round(2)
    return pd.DataFrame(
        {
            "customer": truth["customer_id"].to_numpy()[row[who]],
            "at": _timestamps(at, np.full(len(who), 480)),
            "event": np.where(np.arange(len(who)) < len(paid), "purchase", world["contract"]["cancel"]),
            "category": np.array(names)[pick[who]],
            "amount": np.where(np.arange(len(who)) < len(paid), price[who], np.nan),
        }
    ).assign(item="")


def _people(world: dict, truth: pd.DataFrame, *, rng: np.random.Generator) -> pd.DataFrame:
    """Draw a profile that is independent of needs."""
    people = pd.DataFrame({"id": truth["customer_id"]})
    for column, values in world["profile"].items():
        people[column] = rng.choice(values, size=len(people))
    return people[rng.random(len(people)) < PROFILED_SHARE].sort_values("id")


def _timestamps(day: np.ndarray, minutes: np.ndarray) -> np.ndarray:
    return (np.datetime64(START) + day.astype("timedelta64[D]") + minutes.astype("timedelta64[m]")).astype(
        "datetime64[us]"
    )


def _write(source: dict, *, tables: dict[str, pd.DataFrame], out: Path) -> str:
    _refuse_other_files(out)
    out.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        if name.endswith(".csv"):
            table.to_csv(out / name, index=False)
        else:
            table.to_parquet(out / name, index=False)
    text = yaml.safe_dump(source, sort_keys=False)
    (out / "source.yaml").write_text(f"{NOTE}\n{text}", encoding="utf-8")
    return str(out / "source.yaml")


def _refuse_other_files(out: Path) -> None:
    """Stop before a file is overwritten that `write_scenario` did not write."""
    present = [name for name in FILES if (out / name).exists()]
    source = out / "source.yaml"
    if present and not (source.is_file() and source.read_bytes().startswith(NOTE.encode())):
        raise InputError(f"--out {out}: {', '.join(present)} would be overwritten. Give another folder.")


def _source(scenario: str, world: dict, *, events: pd.DataFrame) -> dict:
    """Describe the tables of a made-up company as a source."""
    named = {"customer_id": "customer", "timestamp": "at", "order_id": "order"}
    columns = {name: named.get(name, name) for name in CONTRACT if named.get(name, name) in events}
    kinds = {kind: "company" if kind == "email_sent" else "customer" for kind in sorted(events["event"].unique())}
    roles = {column: "geographic" if column == "region" else "demographic" for column in world["profile"]}
    people = {"path": "customers.csv", "columns": {"customer_id": "id"} | {c: c for c in roles}, "roles": roles}
    last = (np.datetime64(START) + np.timedelta64(DAYS, "D")).item().isoformat()
    tables = [{"path": "events.parquet", "columns": columns}]
    return {
        "name": f"synth_{scenario}",
        "timezone": ZONE,
        "as_of": last,
        **({"currency": "EUR"} if "amount" in columns else {}),
        "kinds": kinds,
        **({"needs": world["shown_by"]} if "shown_by" in world else {}),
        "events": tables,
        "customers": people,
    }
