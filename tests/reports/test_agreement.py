"""One number for one thing: pages that differ stop a run."""

import pandas as pd
import pytest

from segkit.errors import RunError
from segkit.reports.agreement import check_agreement
from segkit.reports.html import segment_table_html
from segkit.reports.matrix import matrix_html


def test_pages_made_of_one_table_agree_and_any_change_is_found(segments: pd.DataFrame) -> None:
    pages = {"index.html": str(matrix_html(segments)), "03_segments.html": str(segment_table_html(segments))}
    assert check_agreement(pages) > 20
    for column, value in (("customers", 61), ("revenue_share", 0.7), ("name", "Other"), ("verdict", "unstable")):
        changed = segments.astype({column: object} if isinstance(value, str) else {})
        changed.loc[0, column] = value
        both = pages | {"03_segments.html": str(segment_table_html(segments)) + str(segment_table_html(changed))}
        with pytest.raises(RunError, match=f"S01.{column}: .*03_segments.html shows"):
            check_agreement(both)
