"""Bindings to the native checker: Porcupine, and our own decider for unique values (docs/checker.md).

Columns in, verdict and minimal counterexamples out:

    outcome = check(Operations(...), model=Model.CAS_REGISTER)
"""

from ._check import check
from ._values import (
    ABSENT,
    NO_VERSION,
    OPEN_NS,
    CheckOutcome,
    Counterexample,
    Edge,
    Engine,
    F,
    KeyResult,
    Model,
    Operations,
    Order,
)

__all__ = [
    "ABSENT",
    "NO_VERSION",
    "OPEN_NS",
    "CheckOutcome",
    "Counterexample",
    "Edge",
    "Engine",
    "F",
    "KeyResult",
    "Model",
    "Operations",
    "Order",
    "check",
]
