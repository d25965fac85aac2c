"""What a value does over time: `Trend`, its slope and mean over a window."""

from __future__ import annotations

from collections import deque

from fixgw.kit.airdata import Undefined
from fixgw.kit.navigation import difference

LEAST_SAMPLES = 3
MOST_SAMPLES = 60  # of one window; more frequent ones are skipped
SLACK_S = 1e-6  # of rounding


class Trend:
    """The samples of the last `window` seconds. With `wraps`, the value is a direction in degrees."""

    def __init__(self, window: float, wraps: bool = False) -> None:
        self.window = window
        self._wraps = wraps
        self._samples: deque[tuple[float, float]] = deque()
        self._total = 0.0

    def add(self, time: float, value: float) -> None:
        samples = self._samples
        if samples:
            last, before = samples[-1]
            if time - last < self.window / MOST_SAMPLES - SLACK_S:
                return
            if self._wraps:
                value = before + difference(value, before)
        samples.append((time, value))
        self._total += value
        while samples[0][0] < time - self.window - SLACK_S or len(samples) > MOST_SAMPLES + 1:
            self._total -= samples.popleft()[1]

    def clear(self) -> None:
        self._samples.clear()
        self._total = 0.0

    @property
    def covered(self) -> bool:
        """Whether the samples cover at least half of the window."""
        samples = self._samples
        return bool(samples) and samples[-1][0] - samples[0][0] >= self.window / 2.0 - SLACK_S

    def slope(self) -> float:
        """Change per second, by least squares. Raises `Undefined` while there are too few samples."""
        samples = self._samples
        if len(samples) < LEAST_SAMPLES or not self.covered:
            raise Undefined("there are not enough samples yet")
        start, first = samples[0]
        count = len(samples)
        times = [time - start for time, _ in samples]
        values = [value - first for _, value in samples]
        mean_time, mean_value = sum(times) / count, sum(values) / count
        spread = sum((time - mean_time) ** 2 for time in times)
        return (
            sum((time - mean_time) * (value - mean_value) for time, value in zip(times, values, strict=True)) / spread
        )

    def mean(self) -> float:
        """Raises `Undefined` without samples."""
        if not self._samples:
            raise Undefined("there are no samples yet")
        return self._total / len(self._samples)


def slope_per_second(times: list[float], values: list[float], window: float) -> float | None:
    """The slope at the end of recorded samples; None while there are too few."""
    trend = Trend(window)
    for time, value in zip(times, values, strict=True):
        trend.add(time, value)
    try:
        return trend.slope()
    except Undefined:
        return None
