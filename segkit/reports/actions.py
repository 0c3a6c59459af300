"""Opportunities as a page shows them."""

import pandas as pd
from markupsafe import Markup

from segkit import templates
from segkit.format import is_missing, masked_count, money, number, percent
from segkit.personas.action_table import condition_text, order_text
from segkit.personas.actions import EVEN_ODDS

FEW_NAMED = 3  # segments of an opportunity that are named


def format_actions(actions: pd.DataFrame, *, names: pd.Series, currency: str = "") -> list[dict[str, object]]:
    """Format opportunities for a page.

    Parameters
    ----------
    actions
        The table ``actions``.
    names
        Name by segment.
    currency
        Code of the currency of the source, or "".
    """
    return [_format_action(row, names=names, currency=currency) for row in actions.to_dict("records")]


def _format_action(row: dict[str, object], *, names: pd.Series, currency: str) -> dict[str, object]:
    joined = [row["segment"], *(one for one in str(row["joined"]).split() if one != row["segment"])]
    in_money = row["prize_unit"] in ("spend", "margin")

    def amount(value: float) -> str:
        rounded = value if is_missing(value) else float(f"{value:.1e}")
        return money(rounded, currency=currency) if in_money else number(rounded)

    return {
        **{name: None if is_missing(value) else value for name, value in row.items()},
        "names": [names[one] for one in joined[:FEW_NAMED]],
        "more": max(len(joined) - FEW_NAMED, 0),
        "who": masked_count(row["customers"]),
        "amount": amount(row["prize"]),
        "range": (amount(row["prize_low"]), amount(row["prize_high"])),
        "condition": "" if is_missing(row["adopters"]) else condition_text(row),
        "odds": None if row["chance"] == EVEN_ODDS else percent(row["chance"]),  # assumed, not found
    }


def render_actions(
    actions: pd.DataFrame, *, names: pd.Series, currency: str = "", total: int = 0, page: str = ""
) -> Markup:
    """Render opportunities, one numbered card each, below a line that says how they are ordered.

    Parameters
    ----------
    actions, names, currency
        As in ``format_actions``.
    total, page
        How many there are, and the page that lists them, where these are the first ones only.
    """
    rows = format_actions(actions, names=names, currency=currency)
    return templates.html("actions", "cards", rows=rows, order=order_text(actions), total=total, page=page)
