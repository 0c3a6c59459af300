"""Overrides: what a person decided of the segments stays, whatever a refit finds.

```yaml
rename: {S07: Wine lovers}      # the name of a segment
merge: {S05: S03}               # S05 is counted as S03
pin: [S02]                      # S02 keeps its definition: its centre is where the old model's customers are today
```
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field

from segkit.data.safe_yaml import Text, YamlModel, parse_yaml, read_utf8
from segkit.errors import InputError
from segkit.segments.fit import Fit
from segkit.segments.place import nearest


class Overrides(YamlModel):
    """Decisions by segment id: new names, the id another is counted as, and ids whose definition is kept."""

    rename: dict[Text, Text] = Field({}, description="a name for each id, e.g. {S07: Wine lovers}")
    merge: dict[Text, Text] = Field({}, description="the id that another is counted as, e.g. {S05: S03}")
    pin: tuple[Text, ...] = Field((), description="a list of ids, e.g. [S02]")

    def sentences(self) -> list[str]:
        """Each decision as a sentence."""
        sentences = [f"{segment} is called {name}." for segment, name in sorted(self.rename.items())]
        sentences += [f"{segment} is counted as {into}." for segment, into in sorted(self.merge.items())]
        return sentences + [f"{segment} keeps its definition." for segment in self.pin]


def read_overrides(path: str | Path) -> Overrides:
    """The decisions in a YAML file; none where there is no file.

    Raises
    ------
    InputError : not YAML, or other keys or values than the three above
    """
    file = Path(path)
    if not str(path) or not file.is_file():
        return Overrides()
    return parse_yaml(read_utf8(file), Overrides, label=file.name)


def apply_overrides(fit: Fit, overrides: Overrides, *, standing: pd.Series | None) -> Fit:
    """Pin and merge segments of a fit with lasting ids (names are for the segment table).

    Takes  fit; standing: today's segment of each customer under the old model, in order; None at a first run
    Gives  the fit with its centres and ids as decided

    Raises
    ------
    InputError : a decision is about an id that is not there
    """
    segment_ids = set(fit.model.segments) | (set(standing) if standing is not None else set())
    asked = {*overrides.rename, *overrides.merge, *overrides.merge.values(), *overrides.pin}
    if asked - segment_ids:
        raise InputError(
            f"overrides: {sorted(asked - segment_ids)} are no segments; there are {', '.join(sorted(segment_ids))}. "
            f"Mend overrides.yaml."
        )
    centres = fit.model.centres.copy()
    points = fit.axes.to_numpy()
    for segment in overrides.pin:
        members = standing.eq(segment).to_numpy() if standing is not None else np.zeros(len(points), dtype=bool)
        if members.any() and segment in fit.model.segments:
            centres[fit.model.segments.index(segment)] = points[members].mean(axis=0)
    model = replace(
        fit.model,
        centres=centres,
        bag_segment=nearest(fit.model.bag_centres, centres),
        segments=tuple(overrides.merge.get(s, s) for s in fit.model.segments),
    )
    return replace(fit, model=model, number=nearest(points, centres))
