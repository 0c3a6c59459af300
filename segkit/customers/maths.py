"""The functions that formulas may use, in three runtimes: numpy columns, Ibis expressions, and plain numbers."""

import math
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np


class NumpyMath:
    """On numpy columns: a batch."""

    where = staticmethod(np.where)
    sqrt = staticmethod(np.sqrt)
    log = staticmethod(np.log)


class IbisMath:
    """On Ibis expressions: inside a warehouse."""

    @staticmethod
    def where(condition: ir.BooleanValue, yes: Any, no: Any) -> ir.FloatingValue:
        """Constants are cast in the engine: a bare 1.0 is a decimal to some and goes wrong in silence (Spark)."""
        return condition.ifelse(_floating(yes), _floating(no))

    @staticmethod
    def sqrt(value: ir.NumericValue) -> ir.FloatingValue:
        """Square root."""
        return value.sqrt()

    @staticmethod
    def log(value: ir.NumericValue) -> ir.FloatingValue:
        """Natural logarithm."""
        return value.ln()


class PlainMath:
    """On plain numbers: one live customer."""

    sqrt = staticmethod(math.sqrt)
    log = staticmethod(math.log)

    @staticmethod
    def where(condition: bool, yes: float, no: float) -> float:
        """The one or the other; both were computed, so neither may divide by zero."""
        return yes if condition else no


def _floating(value: Any) -> ir.NumericValue:
    if isinstance(value, ir.Value):
        return value
    whole = ibis.literal(int(value)).cast("float64")
    return (
        whole if float(value) == int(value) else whole + (ibis.literal(repr(float(value) - int(value))).cast("float64"))
    )
