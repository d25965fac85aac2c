"""Parquet with all keys that were ever good, as they were recorded, for pandas, polars, DuckDB (extra ``parquet``).

The column ``time`` is a timestamp in UTC, or in a recording without a date seconds from its beginning. What the table
cannot show is in the metadata of the file: the aircraft, whether the flight is simulated; the unit of a column is in
that of the column.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, BinaryIO

from fixgw.errors import MissingLibrary
from fixgw.kit.update import Value
from fixgw.recording.exports.common import Flight
from fixgw.recording.sampling import Samples

NEEDS: Mapping[str, str] | None = None
GROUP_ROWS = 5_000  # rows in memory


def write(samples: Samples, flight: Flight, out: BinaryIO) -> None:
    try:
        import pyarrow as pa  # type: ignore[import-untyped]
        from pyarrow import parquet
    except ImportError:
        raise MissingLibrary("pyarrow", "parquet") from None
    keys = samples.keys
    types = _types(samples)
    units = flight.about.units if flight.about else {}
    arrow: dict[type, Any] = {float: pa.float64(), int: pa.int64(), bool: pa.bool_(), str: pa.string()}
    stamp = pa.timestamp("us", "UTC") if flight.dated else pa.float64()
    fields = [pa.field("time", stamp)]
    fields += [pa.field(k, arrow[types[k]], metadata={"unit": units[k]} if units.get(k) else None) for k in keys]
    facts = {
        "creator": f"fixgw {flight.version}",
        "ident": flight.ident,
        "simulated": "yes" if flight.simulated else "no",
        "recording": flight.about.name if flight.about else "",
    }
    schema = pa.schema(fields, metadata=facts)
    with parquet.ParquetWriter(out, schema, compression="zstd") as writer:
        columns: list[list[Any]] = [[] for _ in fields]
        for row in samples:
            columns[0].append(round(row.time * 1_000_000) if flight.dated else row.time)
            for column, key in zip(columns[1:], keys, strict=True):
                value = row.values.get(key)
                column.append(value if value is None else types[key](value))
            if len(columns[0]) == GROUP_ROWS:
                writer.write_table(_table(pa, columns, schema))
                columns = [[] for _ in fields]
        if columns[0]:
            writer.write_table(_table(pa, columns, schema))


def _table(pa: Any, columns: list[list[Any]], schema: Any) -> Any:
    return pa.table([pa.array(c, type=f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)


def _types(samples: Samples) -> dict[str, type]:
    """The type of each key that holds all of its values."""
    found: dict[str, set[type]] = {}
    for row in samples:
        for key, value in row.values.items():
            fits = not isinstance(value, int) or abs(value) < 2**63
            found.setdefault(key, set()).add(type(value) if fits else float)
    return {key: _common(types) for key, types in found.items()}


def _common(types: set[type[Value]]) -> type:
    if len(types) == 1:
        return next(iter(types))
    return str if str in types else float if float in types else int
