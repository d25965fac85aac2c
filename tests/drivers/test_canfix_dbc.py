"""The DBC file agrees with the codec, as judged by cantools."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import cantools
import pytest

from fixgw.drivers.canfix import protocol as cf
from fixgw.drivers.canfix import table
from fixgw.drivers.canfix.tool import dbc

pytestmark = pytest.mark.slow

TABLES = [table.load(revision) for revision in table.REVISIONS]


@pytest.fixture(scope="module", params=TABLES, ids=lambda t: str(t.revision))
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[table.Table, Any]:
    path: Path = tmp_path_factory.mktemp("dbc") / "canfix.dbc"
    path.write_text(dbc.write(request.param), encoding=dbc.ENCODING)
    return request.param, cantools.database.load_file(path, strict=True)


@pytest.mark.slow
def test_it_contains_every_parameter_with_a_type(loaded: tuple[table.Table, Any]) -> None:
    parameters, database = loaded
    typed = {p.identifier: p for p in parameters if p.type}
    assert {m.frame_id for m in database.messages} == set(typed)
    for message in database.messages:
        parameter = typed[message.frame_id]
        assert message.length == 3 + parameter.size
        assert message.name == dbc.message_name(parameter)
        assert {s.name for s in message.signals} >= {"Node", "Index", "Annunciate", "Quality", "Failure", "Meta"}
        meta = message.get_signal_by_name("Meta").choices or {0: "Value"}
        assert {index: str(name) for index, name in meta.items()} == {0: "Value", **parameter.metas}


def test_units_and_ranges_match_the_table(loaded: tuple[table.Table, Any]) -> None:
    parameters, database = loaded
    for parameter in parameters:
        if parameter.type and len(parameter.parts) == 1:
            signal = database.get_message_by_frame_id(parameter.identifier).get_signal_by_name("Value")
            assert (signal.unit or "") == parameter.units
            if parameter.max is not None:
                assert (signal.minimum, signal.maximum) == (parameter.min, parameter.max)


def test_cantools_decodes_as_the_codec_does(loaded: tuple[table.Table, Any]) -> None:
    parameters, database = loaded
    codec = cf.Codec(parameters)
    random_ = random.Random(7)
    for parameter in (p for p in parameters if p.type):
        for _ in range(30):
            raw = random_.randbytes(3 + parameter.size)
            ours = codec.decode(parameter.identifier, raw)
            assert isinstance(ours, cf.ParameterUpdate)
            theirs = database.decode_message(parameter.identifier, raw, decode_choices=False)
            assert (theirs["Node"], theirs["Index"], theirs["Meta"]) == (ours.node, ours.index, ours.meta)
            assert (bool(theirs["Annunciate"]), bool(theirs["Quality"])) == (ours.annunciate, ours.quality)
            parts = [theirs[name] for name in dbc.signal_names(parameter)]
            if parameter.text:
                assert bytes(parts).decode("latin-1").rstrip("\0 ") == ours.value
            elif len(parts) > 1:
                assert tuple(parts) == ours.value
            else:
                # A DBC file can only say "times 0.1", so cantools is an ulp off where we divide by 10.
                assert isinstance(ours.value, (int, float))
                assert math.isclose(parts[0], ours.value, rel_tol=1e-15) or math.isnan(parts[0])
                assert bool(theirs["Failure"]) == ours.failure or not math.isfinite(ours.value)


def test_cantools_encodes_what_the_codec_reads(loaded: tuple[table.Table, Any]) -> None:
    parameters, database = loaded
    signals = {"Node": 12, "Index": 3, "Annunciate": 1, "Quality": 0, "Failure": 1, "Meta": 5, "Value": 123.4}
    raw = database.encode_message(0x183, signals)
    ours = cf.Codec(parameters).decode(0x183, raw)
    assert ours == cf.update(parameters[0x183], 123.4, 12, index=3, meta="Vne", annunciate=True, failure=True)


def test_names_fit_readers_without_long_names() -> None:
    for parameters in TABLES:
        lines = dbc.write(parameters).splitlines()
        names = [line.split()[2].rstrip(":") for line in lines if line.startswith("BO_ ")]
        assert all(len(name) <= dbc.MAX_NAME_LENGTH and name.isidentifier() for name in names)
        assert len(set(names)) == len(names)
