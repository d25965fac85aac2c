"""Which connections may write a key, by their plugins' own word."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
import pytest

from fixgw import loader
from fixgw.configuration import Connection
from fixgw.database import Database, Definition
from fixgw.plugin import Feeds, Options, PluginBase
from fixgw.runner import fed_keys


class KeyOptions(Options, frozen=True, kw_only=True):
    key: Annotated[str, msgspec.Meta(description="x")] = "IAS"


class Writes(PluginBase[KeyOptions]):
    @classmethod
    def writes(cls, options: KeyOptions) -> Iterable[str]:
        return (options.key, "ALT")


class FeedsOnly(PluginBase):
    @classmethod
    def preflight(cls, options: Any) -> Iterable[Any]:
        yield Feeds((options["key"],))


class Broken(PluginBase):
    @classmethod
    def writes(cls, options: Any) -> Iterable[str]:
        raise RuntimeError("a defect")


class Older(PluginBase):
    """Another's plugin that has an attribute with this name."""

    writes: Any = 7


@pytest.mark.parametrize(
    ("plugin", "options", "keys"),
    [
        (Writes, {"CONFIGPATH": "x"}, {"IAS", "ALT"}),
        (Writes, {"key": "VS"}, {"VS", "ALT"}),
        (FeedsOnly, {"key": "VS"}, {"VS"}),
        (PluginBase, {}, set()),
        (Broken, {}, set()),
        (Older, {}, set()),
    ],
)
def test_the_keys_of_a_connection(plugin: type[PluginBase], options: dict[str, Any], keys: set[str]) -> None:
    assert fed_keys(Connection(name="x", module="x", plugin=plugin, options=options)) == keys


def test_a_defect_in_what_a_plugin_tells_of_its_keys_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    assert fed_keys(Connection(name="x", module="x", plugin=Broken, options={})) == set()
    assert "which keys it writes is not known: writes() raised RuntimeError: a defect" in caplog.text


def test_explain_names_every_connection_that_may_write_the_key() -> None:
    db = Database([Definition(key="IAS"), Definition(key="ALT")])
    db.feeders = {"a": frozenset(["IAS"]), "b": frozenset(["IAS", "ALT"])}
    assert db.item("IAS").explain()["feeders"] == ["a", "b"]
    assert db.item("ALT").explain()["feeders"] == ["b"]


@pytest.mark.parametrize(
    ("module", "options", "some", "none"),
    [
        ("nmea0183", {"port": "x", "keys": {"GS": "TAS", "TALT": None}}, {"LAT", "LONG", "TAS"}, {"GS", "TALT", "IAS"}),
        ("eis", {"port": "x"}, {"TACH1", "OILP1", "EGT11"}, {"LAT"}),
        ("canfix", {"channel": "can0"}, {"IAS", "OILP1", "FUELQ2"}, {"EGTBTN1"}),
        ("i2c_bmp", {}, {"AIRPRESS", "ALT"}, {"IAS"}),
        ("gpio", {"buttons": [{"pin": 4, "key": "BTN1"}]}, {"BTN1"}, {"BTN2"}),
    ],
)
def test_drivers_tell_their_keys(module: str, options: dict[str, Any], some: set[str], none: set[str]) -> None:
    plugin = loader.load_plugin(f"fixgw.drivers.{module}")
    keys = fed_keys(Connection(name="x", module=module, plugin=plugin, options=options))
    assert some <= keys
    assert not none & keys
