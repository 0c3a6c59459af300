"""Make up a table of customers with planted groups in its columns, and no events."""

import numpy as np
import pandas as pd

AS_OF = "2025-03-01"
REGIONS = ("city", "suburb", "country")
TIERS = ("Basic", "Silver", "Gold")
HIGHEST_SCORE = 5  # of the survey


def draw_people(world: dict, *, customers: int, rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Draw a table of customers, and the group that each belongs to.

    Parameters
    ----------
    world
        ``groups`` with what each is like, ``unrelated`` columns, and the share of values that is ``missing``.

    Returns
    -------
    tuple of pandas.DataFrame
        The table, and ``customer_id`` with ``group``.
    """
    groups = pd.DataFrame(world["groups"])
    drawn = np.concatenate(
        [np.arange(len(groups)), rng.choice(len(groups), customers - len(groups), p=groups["share"])]
    )
    own = groups.iloc[rng.permutation(drawn)].reset_index(drop=True)
    ids = [f"C{n:06d}" for n in rng.permutation(customers)]
    pick = rng.random(customers)
    people = pd.DataFrame(
        {
            "id": ids,
            "birth_date": _births(np.clip(_normal(own["age"], rng=rng), 18, 95)),
            "yearly_income": (np.clip(_normal(own["income"], rng=rng), 9, None) * 1000).round(-2),
            "children": rng.poisson(own["children"].to_numpy()),
            "home": np.where(rng.random(customers) < own["owns"], "owns", "rents"),
            "region": np.where(pick < own["city"], *REGIONS[:2]),
            "days_since_last_order": np.clip(_normal(own["recency"], rng=rng), 0, None).round(),
            "total_spend": np.exp(_normal(own["spend"], rng=rng)).round(2),
            "newsletter_reader": np.where(rng.random(customers) < own["reads"], "yes", "no"),
            "price_matters": np.clip(_normal(own["price"], rng=rng).round(), 1, HIGHEST_SCORE),
            "visits_help_page": rng.poisson(world["unrelated"]["visits_help_page"], customers),
            "eye_colour": rng.choice(world["unrelated"]["eye_colour"], customers),
        }
    )
    people.loc[(people["region"] == REGIONS[1]) & (rng.random(customers) < 0.5), "region"] = REGIONS[2]
    gaps = [name for name in people if name not in ("id", "birth_date")]
    people[gaps] = people[gaps].mask(rng.random((customers, len(gaps))) < world["missing"])
    people["email"] = [f"{each.lower()}@example.com" for each in ids]
    people["tier"] = rng.choice(TIERS, customers, p=(0.6, 0.3, 0.1))
    truth = pd.DataFrame({"customer_id": ids, "group": own["name"]})
    return people.sort_values("id", ignore_index=True), truth.sort_values("customer_id", ignore_index=True)


def _normal(terms: pd.Series, *, rng: np.random.Generator) -> np.ndarray:
    mean, deviation = np.array(terms.tolist()).T
    return rng.normal(mean, deviation)


def _births(ages: np.ndarray) -> pd.Series:
    days = np.datetime64(AS_OF) - (ages * 365.25).astype("timedelta64[D]")
    return pd.Series(days.astype("datetime64[D]").astype(str))


def customer_source(scenario: str, *, roles: dict[str, str]) -> dict:
    """Describe the table as a source."""
    columns = {"customer_id": "id"} | {name: name for name in roles}
    return {
        "name": f"synth_{scenario}",
        "as_of": AS_OF,
        "currency": "EUR",
        "customers": {"path": "customers.csv", "columns": columns, "roles": roles},
    }
