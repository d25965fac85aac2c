"""The CAN-FIX parameter table as a DBC file, for SavvyCAN, cantools, Wireshark and other analysis tools."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fixgw.drivers.canfix.table import VALUE_AT, Field, Parameter, Table

#: The encoding that DBC readers expect.
ENCODING = "cp1252"
MAX_NAME_LENGTH = 32

_HEAD = """VERSION "CAN-FIX 0.7, identifiers of {revision}"

NS_ :

BS_:

BU_:
"""
# The signals that every message begins with: name, first bit, number of bits.
_HEADER = (
    ("Node", 0, 8),
    ("Index", 8, 8),
    ("Annunciate", 16, 1),
    ("Quality", 17, 1),
    ("Failure", 18, 1),
    ("Meta", 20, 4),
)
_LONG_NAMES = """BA_DEF_ BO_ "SystemMessageLongSymbol" STRING ;
BA_DEF_DEF_ "SystemMessageLongSymbol" "";
"""


def write(table: Table) -> str:
    """`table` as the text of a DBC file, to be saved in `ENCODING`.

    Each parameter that has a type is a message with the signals Node, Index, the flags, Meta, and Value. The parts of a
    composite value are named as in the table, or else Value1, Value2 ...; text has one signal per character. The
    meanings of Meta are in its value table: when Meta is not 0, Value is not the live value.
    """
    typed = [p for p in table if p.type]
    sections = [_HEAD.format(revision=table.revision)]
    sections += [_message(p) for p in typed]
    sections += [_LONG_NAMES + "".join(_long_name(p) for p in typed)]
    sections += ["".join(_meta_values(p) for p in typed)]
    sections += ["".join(f"SIG_VALTYPE_ {p.identifier} Value : 1;\n" for p in typed if p.type == "FLOAT")]
    return "\n".join(sections)


def message_name(parameter: Parameter) -> str:
    """The parameter's name with nothing but letters, digits and ``_``."""
    return re.sub(r"\W+", "_", parameter.name, flags=re.ASCII).strip("_")


def signal_names(parameter: Parameter) -> list[str]:
    """The names of the value's signals."""
    parts = parameter.parts
    if len(parts) == 1:
        return ["Value"]
    names = [name.strip().replace(" ", "_") for name in parameter.format.split(",")]
    return names if len(names) == len(parts) else [f"Value{n}" for n in range(1, len(parts) + 1)]


def _short_name(parameter: Parameter) -> str:
    name = message_name(parameter)
    tail = f"_{parameter.identifier:03X}"
    return name if len(name) <= MAX_NAME_LENGTH else name[: MAX_NAME_LENGTH - len(tail)] + tail


def _message(parameter: Parameter) -> str:
    lines = [f"BO_ {parameter.identifier} {_short_name(parameter)}: {VALUE_AT + parameter.size} Vector__XXX"]
    lines += [f' SG_ {name} : {start}|{bits}@1+ (1,0) [0|0] "" Vector__XXX' for name, start, bits in _HEADER]
    lines += _values(parameter)
    return "\n".join(lines) + "\n"


def _values(parameter: Parameter) -> Iterator[str]:
    start = 8 * VALUE_AT
    factor = {1: "1", 10: "0.1", 100: "0.01", 1000: "0.001"}[parameter.divisor]
    limits = f"[{parameter.min or 0:.12g}|{parameter.max or 0:.12g}]"
    tail = f'({factor},0) {limits} "{parameter.units}" Vector__XXX'
    for name, part in zip(signal_names(parameter), parameter.parts, strict=True):
        bits = 8 * Field("", part).size
        sign = "-" if part in ("SHORT", "INT", "DINT", "FLOAT") else "+"
        yield f" SG_ {name} : {start}|{bits}@1{sign} {tail}"
        start += bits


def _long_name(parameter: Parameter) -> str:
    name = message_name(parameter)
    if len(name) <= MAX_NAME_LENGTH:
        return ""
    return f'BA_ "SystemMessageLongSymbol" BO_ {parameter.identifier} "{name}";\n'


def _meta_values(parameter: Parameter) -> str:
    if not parameter.metas:
        return ""
    texts = " ".join(f'{index} "{name}"' for index, name in sorted(parameter.metas.items(), reverse=True))
    return f'VAL_ {parameter.identifier} Meta {texts} 0 "Value" ;\n'
