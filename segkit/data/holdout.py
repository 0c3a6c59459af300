"""The holdout of a programme: the same customers are kept out of every export and pilot for a time."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

import ibis.expr.types as ir

from segkit.data.runs import Run, open_run_source
from segkit.data.spec import Source
from segkit.errors import SourceError

BACKTICKS = ("spark", "bigquery")  # dialects that quote names with them
SHA256 = {  # of a text, in hexadecimal
    "duckdb": "sha256({})",
    "postgres": "encode(sha256(convert_to({}, 'UTF8')), 'hex')",
    "spark": "sha2({}, 256)",
    "bigquery": "to_hex(sha256({}))",
    "snowflake": "sha2({}, 256)",
}
DIGITS = 12  # of a hash in hexadecimal: enough that no share is rounded


@dataclass(frozen=True)
class Holdout:
    """Which customers are held out: a share drawn by a hash of their id, from `start` to `end`, its last day.

    The start is part of the hash, so that a later holdout draws other customers. Nothing else is: the same customers
    are held out in every run, export and pilot, whatever the source is called.

    Examples
    --------
    >>> held = Holdout(0.5, start=date(2026, 1, 1), end=date(2026, 12, 31))
    >>> sorted(held.members(["c1", "c2", "c3", "c4"]))
    ['c4']
    """

    share: float
    start: date
    end: date

    @classmethod
    def of(cls, source: Source) -> "Holdout | None":
        """Return the holdout that a source states; None if it states none."""
        if source.holdout is None:
            return None
        return cls(source.holdout, date.fromisoformat(source.holdout_from), date.fromisoformat(source.holdout_until))

    def covers(self, first: date, last: date) -> bool:
        """Return whether any day from the first to the last is a day of the holdout."""
        return first <= self.end and last >= self.start

    def members(self, ids: Iterable[str]) -> frozenset[str]:
        """Return the customers who are held out; ids as in the source."""
        return frozenset(one for one in ids if self._hash(one) < self._limit)

    def without(self, table: ir.Table) -> ir.Table:
        """Leave the customers who are held out out of a lazy table, in any engine."""
        digits = (self._prefix + table.customer_id.cast("string")).hexdigest("sha256").lower().substr(0, DIGITS)
        return table.filter(digits >= self._limit)

    def sql_condition(self, *, dialect: str) -> str:
        """Return the condition, in SQL, that a customer is not held out; the column is ``customer_id``."""
        quote = "`" if dialect in BACKTICKS else '"'
        digest = SHA256[dialect].format(f"'{self._prefix}' || {quote}customer_id{quote}")
        return f"substr(lower({digest}), 1, {DIGITS}) >= '{self._limit}'"

    @property
    def _prefix(self) -> str:
        return f"segkit holdout|{self.start.isoformat()}|"

    @property
    def _limit(self) -> str:
        return f"{int(self.share * 16**DIGITS):0{DIGITS}x}"

    def _hash(self, customer_id: str) -> str:
        return hashlib.sha256((self._prefix + customer_id).encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS]


def current_holdout(run: Run, *, source: str = "", data_dir: str = "") -> Holdout | None:
    """Return the holdout that holds while a run is used: from its as_of until its horizon is over.

    `source`, `data_dir`: where the source is now; by default as the run was made.
    """
    found = Holdout.of(open_run_source(run, source=source, data_dir=data_dir))
    if found is None:
        return None
    period = run.period
    return found if found.covers(period.as_of, period.horizon_end - timedelta(days=1)) else None


def holdout_if_known(run: Run) -> Holdout | None:
    """Return the current holdout of a run; None also where its source cannot be found any more."""
    try:
        return current_holdout(run)
    except SourceError:
        return None
