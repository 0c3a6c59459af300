"""Simulated pools of read-outs with a known mean for each type of action: does the interval of a type contain it?

usage: python benchmarks/pooled.py [--pools 300] [--seed 7]
Each type has a true mean effect around 2 %; its tests vary around that, and are measured with errors of 1 to 5 %.
"""

import argparse

import numpy as np
import pandas as pd

from segkit.experiments.pooled import pool_tests

MEAN = 0.02
ERRORS = (0.01, 0.05)
SIZES = ((1, 1), (1, 4), (2, 2), (4, 1), (4, 4), (6, 0))  # types, tests of each; 0: one to five
SPREADS = ((0.0, 0.0), (0.03, 0.0), (0.03, 0.02), (0.05, 0.04))  # between types, within a type


def pool(rng: np.random.Generator, *, types: int, tests: int, between: float, within: float) -> pd.DataFrame:
    """Return the types of one pool: whether the interval holds the mean, and half its width."""
    true = MEAN + between * rng.standard_normal(types)
    kind = np.repeat(range(types), tests or rng.integers(1, 6, types))
    error = rng.uniform(*ERRORS, len(kind))
    effect = true[kind] + np.hypot(within, error) * rng.standard_normal(len(kind))
    table = pd.DataFrame({"type": kind.astype(str), "kpi": "spend", "customers": 100, "effect": effect, "error": error})
    found = pool_tests(table)
    holds = (found["effect_low"] <= true) & (true <= found["effect_high"])
    return pd.DataFrame({"holds": holds, "half": (found["effect_high"] - found["effect_low"]) / 2})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pools", type=int, default=300)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    print("| types | tests each | between | within | interval holds | half width |\n|---|---|---|---|---|---|")
    for types, tests in SIZES:
        for between, within in SPREADS:
            rng = np.random.default_rng([given.seed, types, tests])
            options = {"types": types, "tests": tests, "between": between, "within": within}
            mean = pd.concat([pool(rng, **options) for _ in range(given.pools)]).astype(float).mean()
            print(
                f"| {types} | {tests or '1 to 5'} | {between:.0%} | {within:.0%} | {mean['holds']:.3f} | "
                f"{mean['half']:.1%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
