"""What the gateway costs, measured. ``python -m benchmarks`` prints a table; see `benchmarks.__main__`.

A module of this package takes part by having ``rows()``: it yields (name, measured, unit, budget, "lower" or "higher",
whichever is better) of each measurement, as it is made.
"""

from __future__ import annotations

from collections.abc import Iterator

#: name, measured, unit, budget, what is better
Row = tuple[str, float, str, float, str]
Rows = Iterator[Row]
