"""The words that a result row is made of, and what its controls show. Imports no jax.

A row is flat: accuracies are percent with a count beside them (`accuracy_secret`,
`accuracy_secret_n`); image quality comes as `<name>_mean`, `_low`, `_high`, `_n`. Any
column may be missing.
"""

from collections.abc import Mapping
from math import isfinite, sqrt
from types import MappingProxyType
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from ghostjax.evaluation.intervals import Z95

__all__ = [
    "CLEARLY",
    "Label",
    "Labels",
    "NO_LABELS",
    "Row",
    "above",
    "count",
    "is_number",
    "number",
    "uses_secret",
]

CLEARLY = 1.0  # points, at least, that an accuracy must stand above a control
Row = Mapping[str, Any]


class Label(NamedTuple):
    """What a defense calls a column that it added to the row (`base.Column`)."""

    text: str
    unit: str = ""
    budget: bool = False  # defenses are compared over it

    def words(self) -> str:
        """Text and unit, for an axis or a head."""
        return f"{self.text}, {self.unit}" if self.unit else self.text


Labels = Mapping[str, Label]  # column -> label
NO_LABELS: Labels = MappingProxyType({})


def number(row: Row, key: str) -> float | None:
    """A finite number of the row, or None."""
    value = row.get(key)
    return float(value) if is_number(value) and isfinite(value) else None


def count(row: Row, base: str) -> int:
    """How many images were measured, those left out of the mean included."""
    parts = ("_n", "_infinite", "_undefined")
    return int(sum(number(row, base + part) or 0 for part in parts))


def is_number(value: Any) -> TypeGuard[float]:
    kinds = int | float | np.number
    return isinstance(value, kinds) and not isinstance(value, bool)


def uses_secret(row: Row) -> bool:
    """Whether answers depend on what is hidden: with the labels of other secrets the
    accuracy is clearly lower. With one sensitive label nothing can show it."""
    return above(row, "control_shuffled_secret")


def above(row: Row, control: str) -> bool:
    """Whether the secret accuracy stands clearly above a control (or one is missing).

    Clearly: by a point and by what a 95 % interval of the difference allows.
    """
    secret, other = number(row, "accuracy_secret"), number(row, control)
    if secret is None or other is None:
        return True
    variance = 0.0
    for key, percent in (("accuracy_secret", secret), (control, other)):
        images = count(row, key) or count(row, "accuracy_secret")
        variance += percent * (100 - percent) / images if images else 0.0
    return secret - other > max(CLEARLY, Z95 * sqrt(max(0.0, variance)))
