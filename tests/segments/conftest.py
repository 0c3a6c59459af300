"""Small companies: a handful of customers is a window in these tests."""

import pytest


@pytest.fixture(autouse=True)
def few_customers_are_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build windows of any number of customers."""
    monkeypatch.setattr("segkit.segments.fit.FEWEST_CUSTOMERS", 1)
