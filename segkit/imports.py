"""Import a library without the slow parts that segkit never uses; whoever uses them later still gets them."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any


@contextmanager
def hidden(name: str) -> Iterator[None]:
    """Make a module look as if it was not installed while others are imported; one that is loaded already stays.

    Examples
    --------
    >>> with hidden("antigravity"):
    ...     import antigravity
    Traceback (most recent call last):
    ...
    ModuleNotFoundError: import of antigravity halted; None in sys.modules
    """
    loaded = name in sys.modules
    if not loaded:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if not loaded:
            del sys.modules[name]


@cache
def import_umap() -> ModuleType:
    """Import UMAP without pynndescent, whose compilation takes fifteen seconds after an install.

    UMAP needs it to search for neighbours, and segkit gives them. A search by somebody else loads it then.
    """
    stand_ins = {
        "pynndescent": {"NNDescent": _LaterSearch},
        "pynndescent.distances": {"named_distances": _LoadedDistances("distances", "named_distances")},
        "pynndescent.sparse": {"sparse_named_distances": _LoadedDistances("sparse", "sparse_named_distances")},
    }
    needed = {} if {"pynndescent", "umap"} & set(sys.modules) else stand_ins
    for name, parts in needed.items():
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name]).update(parts)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # no TensorFlow: intended
            import umap
    finally:
        for name in needed:
            del sys.modules[name]
    return umap


class _SearchType(type):
    """Stand for the class of pynndescent, which is loaded once an index is wanted."""

    def __call__(cls, *given: Any, **options: Any) -> Any:
        from pynndescent import NNDescent

        return NNDescent(*given, **options)

    def __instancecheck__(cls, found: Any) -> bool:
        return "pynndescent" in sys.modules and isinstance(found, sys.modules["pynndescent"].NNDescent)


class _LaterSearch(metaclass=_SearchType):
    """Search for neighbours with pynndescent."""


class _LoadedDistances(dict):
    """Stand for a table of distances of pynndescent: empty until it is loaded, as UMAP then takes its own."""

    def __init__(self, module: str, name: str) -> None:
        super().__init__()
        self.place = (f"pynndescent.{module}", name)

    def __contains__(self, metric: object) -> bool:
        return self.place[0] in sys.modules and metric in vars(sys.modules[self.place[0]])[self.place[1]]

    def __getitem__(self, metric: str) -> Any:
        return vars(sys.modules[self.place[0]])[self.place[1]][metric]
