"""The only chapter of a run on a table of customers alone: segments by their columns, and whether they hold."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from segkit.data.attributes import Attributes, read_attributes
from segkit.data.check_customers import too_few_customers
from segkit.data.runs import Run, open_run_source
from segkit.data.sources import connect, read_customers
from segkit.errors import InputError
from segkit.notebook.results import Result, figure_result, stack, table_result, text_result
from segkit.personas.differences import (
    column_differences,
    compare_with_current,
    name_column_segments,
    persona_table,
)
from segkit.reports import columns as report
from segkit.reports.map import plot_segment_map
from segkit.reports.segments import plot_stability
from segkit.segments import columns
from segkit.segments.columns import PROOFS, ColumnSegments, ColumnTests
from segkit.segments.validation import NONE
from segkit.stats import adjusted_rand
from segkit.templates import text

NOT_THERE = ("revenue", "revenue_share", "margin", "spend_now", "active_share_next", "spend_next")
ASSIGNED = ["customer_id", "segment", "macro_segment", "need", "confidence", "core", "x", "y"]


@dataclass(frozen=True, repr=False, eq=False)
class ColumnResult(Result):
    """Segments by the columns of a table of customers: itself the answer; ``table`` holds the segments.

    Parameters
    ----------
    segments, map, cards, side_by_side
        The segments as a table, on a map, as cards, and their columns next to each other.
    stability, tried, current, used
        Whether they come back, which numbers were tried, segments of today, and how each column was used.
    """

    segments: Result | None = None
    map: Result | None = None
    cards: Result | None = None
    side_by_side: Result | None = None
    stability: Result | None = None
    tried: Result | None = None
    current: Result | None = None
    used: Result | None = None


def read_people(run: Run) -> Attributes:
    """Read the customers of the source of a run.

    Raises
    ------
    InputError
        There is no table of customers, or it has too few customers or columns for segments.
    """
    source = open_run_source(run)
    people = read_customers(source, con=connect())
    if people is None:
        raise InputError(f"{source.name}: it has no table of customers. Add customers, with path, columns and roles.")
    table = people.to_pandas()
    for reason in too_few_customers(len(table)):
        raise InputError(f"{source.name}: {reason}")
    return read_attributes(table, roles=source.roles, as_of=run.period.as_of)


def segment_columns(
    run: Run, *, segments_max: int = 20, smallest_share: float = 0.01, proof: str = "quick"
) -> ColumnResult:
    """Segment the customers of a source by their columns, and test whether the segments hold.

    Parameters
    ----------
    segments_max, smallest_share
        Most segments, and the smallest share of customers in one.
    proof
        quick or full: how often the analysis is repeated.
    """
    attributes, seed = read_people(run), run.parameters()["seed"]
    space, found, tests = columns.learn_space(attributes, seed=seed), None, None
    if len(space.strength):
        sizes = {"most": segments_max, "smallest_share": smallest_share}
        found = columns.find_segments(space, index=attributes.table.index, **sizes, seed=seed)
        tests = columns.validate_columns(found, repetitions=PROOFS[proof], seed=seed)
    verdict = NONE
    if found is not None:
        verdict = columns.column_verdict(tests, share=np.bincount(found.number) / len(found.number))
    metrics = columns.column_metrics(found, tests, verdict=verdict)
    return _Page(attributes, found, tests, metrics, currency=open_run_source(run).currency, seed=seed).result()


@dataclass(frozen=True)
class _Page:
    """What the results of the page are made from."""

    attributes: Attributes
    found: ColumnSegments | None
    tests: ColumnTests | None
    figures: dict[str, object]
    currency: str
    seed: int

    @property
    def holds(self) -> bool:
        """Whether there are segments that hold."""
        return self.figures["segments.verdict"] != NONE

    def result(self) -> ColumnResult:
        """Make all results of the page."""
        own, differences = self._segment(), None
        ids = sorted(own.unique())
        differences = column_differences(self.attributes, own, ids=ids if self.holds else [], seed=self.seed)
        segments = self._segments(own, differences=differences)
        personas = persona_table(differences, segments, currency=self.currency) if self.holds else None
        tried = self.found.tried if self.found is not None else None
        compared, agreements = self._current(own)
        tables = {"assignments": self._assignments(own), "segments": segments, "profile": self._profile()}
        tables |= {} if personas is None else {"personas": personas, "column_differences": differences}
        tables |= {} if tried is None else {"columns_tried": tried}
        tables |= {"current_segments": compared} if len(compared) else {}
        metrics = self.figures | self._counts(segments) | agreements
        used = len(self.attributes.used)
        answer = text_result(
            headline=report.describe_answer(metrics, segments),
            tiles=report.answer_tiles(metrics, segments, used=used),
            bullets=report.describe_evidence(metrics, segments, used=used, most=0 if tried is None else len(tried) + 1),
            note=text("columns", "only_columns"),
        )
        nothing = dict.fromkeys(("segments", "map", "cards", "side_by_side", "stability"), text_result(differences))
        parts = self._parts(segments, personas=personas, differences=differences) if self.holds else nothing
        return ColumnResult(
            segments,
            metrics,
            html=answer.html,
            tables=tables,
            **parts,
            tried=self._tried(),
            current=self._compared(compared, segments, agreements=agreements),
            used=self._used(),
        )

    def _tried(self) -> Result:
        if self.found is None:
            return text_result(note=text("columns", "tried", tried=0, most=0))
        tried = self.found.tried
        return table_result(tried, name="columns_tried", shown=report.format_tried(tried))

    def _segment(self) -> pd.Series:
        """Return the id of the segment of each customer; all in one where none hold."""
        index = self.attributes.table.index
        number = self.found.number if self.found is not None and self.holds else np.zeros(len(index), dtype=int)
        return pd.Series([f"S{n + 1:02d}" for n in number], index=index)

    def _segments(self, own: pd.Series, *, differences: pd.DataFrame) -> pd.DataFrame:
        ids = sorted(own.unique())
        sizes = own.value_counts().reindex(ids).to_numpy()
        names = name_column_segments(differences, ids=ids) if self.holds else {ids[0]: text("columns", "everyone")}
        table = pd.DataFrame({"segment": ids, "macro_segment": "", "customers": sizes})
        table["customer_share"] = sizes / sizes.sum()
        table = table.assign(**dict.fromkeys(NOT_THERE, np.nan))
        for end in ("low", "high"):
            table[f"active_share_next_{end}"] = table[f"spend_next_{end}"] = np.nan
        tested = self.tests.segments if self.holds else None
        for name in ("stability", "stability_low", "stability_high"):
            table[name] = np.nan if tested is None else tested[name].to_numpy()
        table["verdict"] = "not tested" if tested is None else tested["verdict"].to_numpy()
        table["name"] = [names[each] for each in ids]
        return table.assign(need=None, need_name="", action=None)

    def _assignments(self, own: pd.Series) -> pd.DataFrame:
        table = own.rename("segment").reset_index().assign(macro_segment="", need=None)
        table["confidence"] = self.tests.confidence if self.holds else 1.0
        table["core"] = self.tests.core if self.holds else True
        places = self.found.plane[["x", "y"]].to_numpy() if self.found is not None else np.zeros((len(table), 2))
        return table.assign(x=places[:, 0], y=places[:, 1])[ASSIGNED]

    def _profile(self) -> pd.DataFrame:
        """Return how each column was used, as findings on the data."""
        rows = self.attributes.report
        made = {"section": rows["role"], "item": rows["column"], "value": rows["filled"], "unit": "share"}
        return pd.DataFrame({**made, "words": rows["use"]})

    def _counts(self, segments: pd.DataFrame) -> dict[str, object]:
        tried = 0 if self.found is None else len(self.found.tried)
        number = len(segments) if self.holds else 0
        counts = {"segments.count": number, "segments.asked": None, "segments.tried": tried}
        counts |= {"segments.customers": len(self.attributes.table), "profile.columns": len(self.attributes.used)}
        return counts | {"forward.spend_r2": None, "forward.reason": text("columns", "only_columns")}

    def _current(self, own: pd.Series) -> tuple[pd.DataFrame, dict[str, object]]:
        """Compare with the segments that customers are in already; where none hold there is nothing to compare."""
        tables, agreements = [], {}
        for name in self.attributes.current if self.holds else ():
            column = self.attributes.current[name]
            known = column.notna().to_numpy()
            if known.any():
                agreements[name] = adjusted_rand(column[known].astype(str), own[known])
                tables.append(compare_with_current(column, own).assign(column=name))
        columns_ = ["column", "current", "customers", "segment", "share"]
        table = pd.concat(tables, ignore_index=True)[columns_] if tables else pd.DataFrame(columns=columns_)
        return table, {f"current.ari_{n + 1}": value for n, value in enumerate(agreements.values())}

    def _compared(self, table: pd.DataFrame, segments: pd.DataFrame, *, agreements: dict[str, object]) -> Result:
        if not len(table):
            return text_result(note=text("columns", "no_current"))
        names = list(dict.fromkeys(table["column"]))
        pairs = zip(names, agreements.values(), strict=False)
        lines = [text("columns", "agreement", ari=ari, column=name) for name, ari in pairs]
        shown = table_result(table, name="current_segments", shown=report.format_current(table, segments))
        return Result(table, html=lambda: stack(text_result(bullets=lines), shown))

    def _used(self) -> Result:
        shown = report.format_profile(self.attributes)
        table = table_result(self.attributes.report, name="columns_used", shown=shown, columns=_same(shown))
        sentences = text_result(bullets=report.describe_columns(self.attributes))
        return Result(self.attributes.report, html=lambda: stack(sentences, table))

    def _parts(self, segments: pd.DataFrame, *, personas: pd.DataFrame, differences: pd.DataFrame) -> dict[str, Result]:
        """Make what only segments that hold have."""
        styled, assigned = report.styled(segments), self._assignments(self._segment())
        listed = report.format_segments(segments, personas)
        wide = report.format_side_by_side(differences, segments, currency=self.currency)
        return {
            "segments": table_result(segments, name="column_segments", shown=listed, columns=_same(listed)),
            "map": figure_result(assigned, lambda: plot_segment_map(assigned, styled), name="map of columns"),
            "cards": Result(personas, html=lambda: report.cards_html(personas, segments)),
            "side_by_side": table_result(differences, name="side_by_side", shown=wide, columns=_same(wide)),
            "stability": figure_result(segments, lambda: plot_stability(styled), name="stability of columns"),
        }


def _same(table: pd.DataFrame) -> dict[str, str]:
    return {name: name for name in table}
