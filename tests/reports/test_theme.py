"""The colours of segments: apart for every eye, and seen on white and on dark paper."""

import itertools

import numpy as np
import pytest

from segkit.reports.theme import COLOURS, MARKERS, segment_style

# Machado, Oliveira & Fernandes 2009: what is left of a colour for those without red or green receptors, in linear RGB
EYES = {
    "all receptors": np.eye(3),
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
}
# Ottosson 2020: OKLab, in which equal steps look equal
TO_CONES = [
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
]
TO_LAB = [
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
]
PAPERS = ("#ffffff", "#141a20")


def linear(colour: str) -> np.ndarray:
    part = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """As WCAG 2 defines it: 1 is none, 21 is black on white."""
    light = sorted(float(np.dot([0.2126, 0.7152, 0.0722], linear(colour))) for colour in (one, other))
    return (light[1] + 0.05) / (light[0] + 0.05)


@pytest.mark.parametrize("eye", EYES)
def test_colours_stay_apart(eye: str) -> None:
    seen = [np.clip(np.array(EYES[eye]) @ linear(colour), 0, 1) for colour in COLOURS]
    placed = [np.array(TO_LAB) @ np.cbrt(np.array(TO_CONES) @ rgb) for rgb in seen]
    assert min(np.linalg.norm(one - other) for one, other in itertools.combinations(placed, 2)) > 0.12


def test_colours_are_seen_on_both_papers() -> None:
    assert min(contrast(colour, paper) for colour in COLOURS for paper in PAPERS) > 2


def test_as_many_looks_as_colours_and_shapes_allow() -> None:
    assert len({segment_style(f"S{number:02d}") for number in range(1, 50)}) == len(COLOURS) * len(MARKERS) == 49
