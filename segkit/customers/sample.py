"""A sample of customers that depends on nobody else: who is in it is decided by a hash of the id alone."""

import hashlib
from collections.abc import Iterable

import numpy as np

LEARNT_FROM = 20_000  # customers at one date; more teach no more, and cost time


def chosen(ids: Iterable[str], *, most: int = LEARNT_FROM) -> np.ndarray:
    """Which customers are in the sample: all where there are no more than so many, else the smallest hashes.

    Takes  distinct ids, in any order
    Gives  a flag for each, in their order

    Parameters
    ----------
    most : size of the sample

    >>> chosen(["a", "b", "c"], most=3).tolist(), int(chosen(["a", "b", "c"], most=2).sum())
    ([True, True, True], 2)
    """
    given = list(ids)
    kept = np.ones(len(given), dtype=bool)
    if len(given) > most:
        hashes = np.array([int.from_bytes(hashlib.blake2b(i.encode(), digest_size=8).digest()) for i in given])
        kept[np.argsort(hashes, kind="stable")[most:]] = False
    return kept
