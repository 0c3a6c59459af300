"""What describes customers at one date, and what they did in a horizon: figures, and amounts by thing."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import sparse

Bought = tuple[sparse.csr_array | None, tuple[str, ...]]  # customers x things, and the names of the things


class _WithThings:
    """What was bought by category, and by item where needs are learnt from items."""

    weights: sparse.csr_array | None
    categories: tuple[str, ...]
    item_weights: sparse.csr_array | None
    items: tuple[str, ...]

    @property
    def things(self) -> Bought:
        """What needs are learnt from: amounts by item or category, and their names."""
        return (self.weights, self.categories) if self.item_weights is None else (self.item_weights, self.items)


@dataclass(frozen=True)
class CustomerData(_WithThings):
    """Hold what describes customers at one date.

    ``features``: one row per customer; ``weights``: what they bought (customers x ``categories``, or None);
    ``item_weights``: the same by item (customers x ``items``), where needs are learnt from items.
    """

    features: pd.DataFrame
    weights: sparse.csr_array | None
    categories: tuple[str, ...]
    item_weights: sparse.csr_array | None = None
    items: tuple[str, ...] = ()

    def select(self, rows: np.ndarray) -> "CustomerData":
        """Return some of the customers, by a boolean mask or row numbers."""
        return replace(self, features=self.features.iloc[rows], **_rows_of(self, rows))


@dataclass(frozen=True)
class Outcomes(_WithThings):
    """Hold what each customer did in a horizon.

    ``totals`` by customer: spend (net of returns), orders, active_days; ``weights`` by category; ``item_weights`` by
    item, where needs are learnt from items.
    """

    totals: pd.DataFrame
    weights: sparse.csr_array | None
    categories: tuple[str, ...]
    item_weights: sparse.csr_array | None = None
    items: tuple[str, ...] = ()

    def select(self, rows: np.ndarray) -> "Outcomes":
        """Return some of the customers, by a boolean mask or row numbers."""
        return replace(self, totals=self.totals.iloc[rows], **_rows_of(self, rows))

    @property
    def active(self) -> np.ndarray:
        """Flag customers with any event of their own."""
        return (self.totals["active_days"] > 0).to_numpy()

    @property
    def value(self) -> np.ndarray:
        """Return log(1 + spend); log(1 + active days) where the source carries no money."""
        column = "spend" if "spend" in self.totals else "active_days"
        return np.log1p(self.totals[column].clip(lower=0).to_numpy())


def _rows_of(bought: "CustomerData | Outcomes", rows: np.ndarray) -> dict[str, sparse.csr_array | None]:
    """Return what some of the customers bought, by category and by item."""
    both = {"weights": bought.weights, "item_weights": bought.item_weights}
    return {name: None if table is None else table[rows] for name, table in both.items()}
