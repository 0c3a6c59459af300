"""Breadth of one live customer: what they bought by category in the lookback, and its entropy, kept up to date."""

from collections.abc import Iterable
from math import log

LOG_UNIT = 10**10  # w ln w is kept as a whole number of these parts, as in the batch


class Breadth:
    """Weights by category, and of them the number, the sum, the sum of w ln w, and the largest."""

    def __init__(self) -> None:
        self.weight: dict[str, int] = {}
        self.total, self.log, self.top = 0, 0, 0
        self.changed: set[str] = set()  # categories whose weight changed; a reader that follows them clears it
        self._days: dict[int, dict[str, int]] = {}
        self._stored: list[tuple[int, str, int]] = []  # of stored days, latest first

    def load_days(self, stored: Iterable[tuple[int, str, int]]) -> None:
        """Begin with day, category and weight of stored days, the earliest first."""
        self._stored = list(stored)[::-1]
        weight: dict[str, int] = {}
        for _, category, value in self._stored:
            weight[category] = weight.get(category, 0) + value
        self.weight = {category: value for category, value in weight.items() if value}
        values = self.weight.values()
        self.total, self.top = sum(values), max(values, default=0)
        self.log = sum([_w_log_w(value) for value in values])
        self.changed.update(self.weight)

    def add(self, day: int, category: str, weight: int) -> None:
        """Add a weight to a category on a day of the lookback."""
        of_day = self._days.setdefault(day, {})
        of_day[category] = of_day.get(category, 0) + weight
        self._change(category, weight)

    def drop_days(self, *, before: int) -> None:
        """Take away the days before one."""
        while self._stored and self._stored[-1][0] < before:
            _, category, weight = self._stored.pop()
            self._change(category, -weight)
        for day in [d for d in self._days if d < before]:
            for category, weight in self._days.pop(day).items():
                self._change(category, -weight)

    def aggregates(self) -> tuple[float, float, float, float]:
        """categories, category_weight, category_log, top_category_weight, as the formulas read them."""
        return float(len(self.weight)), float(self.total), self.log / LOG_UNIT, float(self.top)

    def _change(self, category: str, weight: int) -> None:
        if not weight:
            return
        self.changed.add(category)
        old = self.weight.get(category, 0)
        new = old + weight
        self.total += weight
        self.log += _w_log_w(new) - _w_log_w(old)
        if new:
            self.weight[category] = new
        else:
            del self.weight[category]
        if new > self.top:
            self.top = new
        elif weight < 0 and old == self.top:
            self.top = max(self.weight.values(), default=0)


def _w_log_w(weight: int) -> int:
    return round(weight * log(weight) * LOG_UNIT) if weight > 1 else 0
