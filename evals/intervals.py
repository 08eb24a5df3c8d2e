"""Means with bootstrap intervals, alone and paired; seeded, so that one run always gives one figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

_RESAMPLES = 1_000
_SEED = 20261124


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean with its 95 % bootstrap interval over n cases."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        """Write it as a table cell."""
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


def mean(values: Sequence[float]) -> Mean | None:
    """Return the mean and its percentile bootstrap interval; None when there is no value."""
    if not values:
        return None
    array = np.asarray(values, dtype=float)
    draws = np.random.default_rng(_SEED).integers(0, len(array), (_RESAMPLES, len(array)))
    low, high = np.percentile(array[draws].mean(axis=1), [2.5, 97.5])
    return Mean(float(array.mean()), float(low), float(high), len(array))


def difference(after: Sequence[float], before: Sequence[float]) -> Mean | None:
    """Return the mean change, case by case, with the interval of the paired bootstrap."""
    return mean([new - old for new, old in zip(after, before, strict=True)])
