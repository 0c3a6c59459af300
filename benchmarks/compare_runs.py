"""Compare two run folders: are their tables, headline numbers and models the same, byte for byte?

python benchmarks/compare_runs.py OLD NEW

Columns and headline numbers that were renamed between the two are compared under their new names.
Prints one line for each difference and a summary; status 1 where anything differs.
"""

import argparse
import json
import re
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from segkit.tables import OLD_COLUMNS, OLD_TABLES

OLD_METRICS = (  # headline numbers of format 1: pattern, and what it became
    (r"^predict\.(.*)said_by$", r"forecast.\1forecaster"),
    (r"^predict\.drift\.(.*)_came", r"forecast.drift.\1_observed"),
    (r"^predict\.(.*)\.rival$", r"forecast.\1.baseline"),
    (r"^predict\.", "forecast."),
    (r"^foresight\.", "predictability."),
    (r"^sides\.", "comparison."),
    (r"^(refresh\..*)_came_less_expected", r"\1_observed_less_predicted"),
    (r"^measure\.baseline_(start|end)$", r"measure.\1"),
    (r"^personas\.told$", "personas.described"),
    (r"^personas\.not_told$", "personas.not_described"),
)


def main() -> None:
    """Compare the two folders named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    options = parser.parse_args()
    tables, found = compare_tables(options.old, options.new)
    found += compare_metrics(options.old, options.new) + compare_models(options.old, options.new)
    print("\n".join(found))
    print(f"{tables} tables compared, {len(found)} differences")
    sys.exit(bool(found))


def compare_tables(old: Path, new: Path) -> tuple[int, list[str]]:
    """Number of tables in both runs, and a line for each table or column that differs."""
    before = {OLD_TABLES.get(path.stem, path.stem): path for path in sorted((old / "tables").glob("*.parquet"))}
    after = {path.stem: path for path in sorted((new / "tables").glob("*.parquet"))}
    found = [f"table {name}: only in {old if name in before else new}" for name in sorted(before.keys() ^ after.keys())]
    for name in sorted(before.keys() & after.keys()):
        renamed = OLD_COLUMNS.get(before[name].stem, {})
        one, two = _read(before[name]), _read(after[name])
        one = one.rename_columns([_renamed(column, renamed) for column in one.column_names])
        if set(one.column_names) != set(two.column_names):
            found.append(f"table {name}: columns {sorted(set(one.column_names) ^ set(two.column_names))} in one only")
        if one.num_rows != two.num_rows:
            found.append(f"table {name}: {one.num_rows} and {two.num_rows} rows")
            continue
        shared = [column for column in one.column_names if column in two.column_names]
        found += [f"table {name}: column {column} differs" for column in shared if not _same(one[column], two[column])]
    return len(before.keys() & after.keys()), found


def compare_metrics(old: Path, new: Path) -> list[str]:
    """A line for each headline number of summary.json that differs."""
    before, after = (json.loads((run / "summary.json").read_text()) for run in (old, new))
    if not set(before) <= set(after):
        before = {_renamed_metric(name): value for name, value in before.items()}
    return [
        f"summary {name}: {before.get(name)!r} and {after.get(name)!r}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def compare_models(old: Path, new: Path) -> list[str]:
    """A line for each array of the model that differs."""
    before, after = ({path.name: path for path in sorted((run / "model").glob("*.npz"))} for run in (old, new))
    found = [f"model {name}: in one only" for name in sorted(before.keys() ^ after.keys())]
    for name in sorted(before.keys() & after.keys()):
        one, two = np.load(before[name]), np.load(after[name])
        found += [f"model {name}: {key} in one only" for key in sorted(set(one.files) ^ set(two.files))]
        both = sorted(set(one.files) & set(two.files))
        found += [f"model {name}: {key} differs" for key in both if one[key].tobytes() != two[key].tobytes()]
    return found


def _renamed(column: str, renamed: dict[str, str]) -> str:
    """The present name of a column; a name that ends in * stands for all that begin like it."""
    for old, new in renamed.items():
        if old.endswith("*") and column.startswith(old[:-1]):
            return new[:-1] + column.removeprefix(old[:-1])
    return renamed.get(column, column)


def _renamed_metric(name: str) -> str:
    """The present name of a headline number."""
    for pattern, new in OLD_METRICS:
        if re.search(pattern, name):
            return re.sub(pattern, new, name)
    return name


def _read(path: Path) -> pa.Table:
    return pq.read_table(path).replace_schema_metadata(None)


def _same(one: pa.ChunkedArray, two: pa.ChunkedArray) -> bool:
    """Equal to the last bit; missing numbers count as equal."""
    if one.type != two.type:
        return False
    if pa.types.is_floating(one.type):
        first, second = (column.to_numpy(zero_copy_only=False) for column in (one, two))
        return first.tobytes() == second.tobytes()
    return one.combine_chunks().equals(two.combine_chunks())


if __name__ == "__main__":
    main()
