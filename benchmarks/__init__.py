"""Measurements of the gateway's cost. ``python -m benchmarks`` prints a table; see `benchmarks.__main__`.

Each module of this package has a function ``rows()``, which makes the measurements and yields each of them as (name,
measured, unit, budget, "lower" or "higher", whichever is better).
"""

from __future__ import annotations

from collections.abc import Iterator

#: name, measured, unit, budget, what is better
Row = tuple[str, float, str, float, str]
Rows = Iterator[Row]
