"""Place anyone: the segment of a customer is that of the nearest centre in the anticipation space.

Who has a segment already keeps it while its centre is hardly farther than the nearest: customers near a border would
else go to and fro. What they had is that of a run, so that a batch and live events, which both read it there, agree.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from segkit.customers.anticipate import Signals, Space, coordinates
from segkit.errors import RunError

ROWS_AT_ONCE = 200_000  # distances are computed in slices of this many customers
# Of the distance to the nearest centre, by how much that of the old segment may be longer: the widest border tried that
# costs at most .005 of R2 on both data sets of benchmarks/staying.py.
STAYS = 0.1
TIE = 1e-6  # squared distances closer than this are equal: far above what runtimes differ by, far below what matters


@dataclass(frozen=True)
class SegmentModel:
    """All that is needed to place a customer; plain arrays, nothing executable.

    Parameters
    ----------
    space : from features to coordinates
    segments, macro : id of each centre, and the macro bucket it sits in
    centres : segments x axes
    bag_centres, bag_of, bag_segment : every centre of every bag, its bag, and the number of the segment it went to
    """

    space: Space
    segments: tuple[str, ...]
    macro: tuple[str, ...]
    centres: np.ndarray
    bag_centres: np.ndarray
    bag_of: np.ndarray
    bag_segment: np.ndarray


def place(model: SegmentModel, signals: Signals, *, home: pd.Series | None = None) -> pd.DataFrame:
    """Assign a segment to everyone, also to customers that the fit has not seen.

    Takes  model; signals of any date with the features of the model's space
    Gives  one row per customer, indexed by customer_id: segment, macro_segment, confidence (0-1: share of bags that
           agree)

    Parameters
    ----------
    home : segment by customer_id that they have in the run before, and keep at a border
    """
    return place_points(model, coordinates(model.space, signals), home=home)


def place_points(model: SegmentModel, axes: pd.DataFrame, *, home: pd.Series | None = None) -> pd.DataFrame:
    """The same for customers whose coordinates are known."""
    points = axes.to_numpy(dtype=float)
    number = nearest(points, model.centres)
    names, codes = np.unique(model.segments, return_inverse=True)  # merged segments share an id
    if home is not None:
        number = _at_home(
            points, number, model=model, codes=codes, home=pd.Index(names).get_indexer(home.reindex(axes.index))
        )
    confidence = agreement(
        points,
        codes[number],
        bag_centres=model.bag_centres,
        bag_of=model.bag_of,
        bag_segment=codes[model.bag_segment],
    )
    return pd.DataFrame(
        {
            "segment": np.array(model.segments, dtype=object)[number],
            "macro_segment": np.array(model.macro, dtype=object)[number],
            "confidence": confidence.round(6),
        },
        index=axes.index,
    )


def nearest(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Number of the nearest centre (squared Euclidean distance); of equally near ones the first.

    Distances within `TIE` of the least count as equal, so that a batch, one customer and SQL, which round differently
    in the last digits, agree on ties too.
    """
    found = np.empty(len(points), dtype=np.int64)
    sizes = np.square(centres).sum(axis=1)
    for start in range(0, len(points), ROWS_AT_ONCE):
        part = points[start : start + ROWS_AT_ONCE]
        gaps = sizes - 2.0 * (part @ centres.T)  # the square of the point is the same for every centre
        found[start : start + ROWS_AT_ONCE] = (gaps <= gaps.min(axis=1, keepdims=True) + TIE).argmax(axis=1)
    return found


def staying(squares: np.ndarray, number: np.ndarray, *, codes: np.ndarray, home: np.ndarray) -> np.ndarray:
    """Number of the centre where those who are at a border keep the segment they had.

    Takes  squares: squared distances, customers x centres; number: of the nearest; codes: segment of each centre; home:
           code of the segment that each customer had, -1 for none
    """
    own = np.where(codes == home[:, None], squares, np.inf)
    near = squares[np.arange(len(number)), number]
    stays = own.min(axis=1) <= (1 + STAYS) ** 2 * near + TIE
    return np.where(stays & (codes[number] != home), own.argmin(axis=1), number)


def _at_home(
    points: np.ndarray, number: np.ndarray, *, model: SegmentModel, codes: np.ndarray, home: np.ndarray
) -> np.ndarray:
    """The same for those who would move, in slices."""
    found, sizes = number.copy(), np.square(model.centres).sum(axis=1)
    moving = np.flatnonzero((home >= 0) & (codes[number] != home))
    for start in range(0, len(moving), ROWS_AT_ONCE):
        rows = moving[start : start + ROWS_AT_ONCE]
        squares = np.square(points[rows]).sum(axis=1)[:, None] + sizes - 2.0 * (points[rows] @ model.centres.T)
        found[rows] = staying(np.maximum(squares, 0.0), number[rows], codes=codes, home=home[rows])
    return found


def agreement(
    points: np.ndarray, number: np.ndarray, *, bag_centres: np.ndarray, bag_of: np.ndarray, bag_segment: np.ndarray
) -> np.ndarray:
    """Share of the bags whose own nearest centre went to the same segment; 0 where no bag found anything."""
    bags = np.unique(bag_of)
    agreed = np.zeros(len(points))
    for bag in bags:
        own = np.flatnonzero(bag_of == bag)
        agreed += bag_segment[own][nearest(points, bag_centres[own])] == number
    return agreed / max(len(bags), 1)


def model_arrays(model: SegmentModel) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The model as arrays and plain values, as a run folder keeps it; `model_from` reads it back."""
    parts = {f"space_{k}": v for k, v in asdict(model.space).items()}
    parts |= {k: v for k, v in asdict(model).items() if k != "space"}
    arrays = {k: v for k, v in parts.items() if isinstance(v, np.ndarray)}
    meta = {k: list(v) if isinstance(v, tuple) else v for k, v in parts.items() if k not in arrays}
    return arrays, meta


def model_from(arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> SegmentModel:
    """The model of a run folder's arrays and values; what else stands beside it there is left out.

    Raises
    ------
    RunError : parts are missing: another version made it
    """
    held = {**arrays, **{k: tuple(v) if isinstance(v, list) else v for k, v in meta.items()}}
    needed = [f"space_{field.name}" for field in fields(Space)]
    needed += [field.name for field in fields(SegmentModel) if field.name != "space"]
    missing = sorted(set(needed) - set(held))
    if missing:
        raise RunError(
            f"model: there is no {', '.join(missing[:3])} in it, so another version of segkit made it. "
            f"Make that run again, or give another (--previous none does without)."
        )
    space = Space(**{field.name: held[f"space_{field.name}"] for field in fields(Space)})
    return SegmentModel(space=space, **{f.name: held[f.name] for f in fields(SegmentModel) if f.name != "space"})
