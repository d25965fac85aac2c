"""The contract between the gateway and a plugin: creation, start, stop, status, options."""

from __future__ import annotations

import types
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, assert_type

import msgspec
import pytest

import fixgw.database
from fixgw.backoff import Backoff
from fixgw.database import Database, Definition
from fixgw.drivers.links.instrument import Instrument, InstrumentOptions, Protocol
from fixgw.kit.anonymous import Shift
from fixgw.plugin import Options, PluginBase, PluginFail, Poller, TypeVar
from fixgw.world import World


@pytest.fixture(autouse=True)
def db() -> Iterator[Database]:
    before = fixgw.database.current()
    db = Database([Definition(key="IAS")])
    fixgw.database.bind(db)
    yield db
    fixgw.database.bind(before)


class Recorder(PluginBase):
    """Records its calls; `run` or `stop` raises `error`."""

    def __init__(self, name: str, config: dict[str, Any], error: BaseException | None = None) -> None:
        super().__init__(name, config)
        self.error = error
        self.calls: list[tuple[str, bool]] = []

    def run(self) -> None:
        self.calls.append(("run", self.running))
        if self.error:
            raise self.error

    def stop(self) -> None:
        self.calls.append(("stop", self.running))
        if self.error:
            raise self.error


def test_a_plugin_has_the_attributes_that_the_guide_promises() -> None:
    config = {"port": 5, "CONFIGPATH": "/etc/fixgw"}
    made = PluginBase("mine", config)
    assert (made.name, made.config, made.running, made.config_meta) == ("mine", config, False, None)
    assert made.config is config
    assert made.log.name == "fixgw.plugins.mine"
    assert made.get_status() == {}
    assert made.health() == ""
    assert made.source == "mine"
    assert (made.alive, made.done_with) == (None, None)
    assert made.is_running() is False
    assert made.is_complete() is True


def test_the_source_of_a_simulator_says_so() -> None:
    class Simulator(PluginBase):
        simulates = True

    assert [Simulator(name, {}).source for name in ("mine", "replay/gps")] == ["sim/mine", "replay/gps"]


def test_a_plugin_reads_and_writes_the_database_under_its_source(db: Database) -> None:
    with World(db).hosting():
        made = PluginBase("mine", {})
    made.source = "mine/7"
    made.db_write("IAS", 80.0)
    assert (db.read("IAS").value, db.read("IAS").source) == (80.0, "mine/7")
    assert made.db_list() == ["IAS"]
    assert made.db_read("IAS")[0] == 80.0
    made.db_get_item("IAS").value = 90.0
    assert (db.read("IAS").value, db.read("IAS").source) == (90.0, "mine/7")
    for missing in (made.db_read, made.db_get_item):
        with pytest.raises(KeyError):
            missing("NONE")


def test_the_positions_of_the_configuration_are_an_optional_third_argument() -> None:
    assert PluginBase("mine", {}, {"port": (3, 7)}).config_meta == {"port": (3, 7)}


def test_starting_calls_run_and_then_sets_running() -> None:
    made = Recorder("mine", {})
    made.start()
    assert made.calls == [("run", False)]
    assert made.running
    assert made.is_running()


class DeadAtOnce(Recorder):
    """A plugin whose thread dies before `run` returns."""

    runs_by_itself = True

    def run(self) -> None:
        super().run()
        self.running = False


def test_a_thread_that_dies_at_once_does_not_count_as_running() -> None:
    made = DeadAtOnce("mine", {})
    made.start()
    assert made.calls == [("run", True)]
    assert not made.running


@pytest.mark.parametrize("kind", [Recorder, DeadAtOnce])
def test_a_run_that_raises_leaves_running_false(kind: type[Recorder]) -> None:
    made = kind("mine", {}, ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        made.start()
    assert not made.running


def test_shutting_down_calls_stop_and_clears_running() -> None:
    made = Recorder("mine", {})
    made.start()
    made.shutdown()
    assert made.calls[-1] == ("stop", True)
    assert not made.is_running()


def test_a_stop_that_fails_is_reported_and_still_removes_callbacks() -> None:
    made = Recorder("mine", {}, PluginFail("a thread is left"))
    heard: list[Any] = []
    made.db_callback_add("IAS", lambda *a: heard.append(a))
    made.running = True
    with pytest.raises(PluginFail, match="a thread is left"):
        made.shutdown()
    assert not made.running
    made.db_write("IAS", 1)
    assert heard == []


def test_the_base_class_is_a_plugin_that_does_nothing() -> None:
    made = PluginBase("mine", {})
    made.start()
    made.shutdown()
    made.shutdown()
    assert not made.running


def test_what_a_plugin_does_not_say_of_itself_is_nothing(db: Database) -> None:
    class Plain(PluginBase):
        pass

    options: Any = {}
    for said in (Plain.check(options, db), Plain.advise(options, db), Plain.claims(options), Plain.references(options)):
        assert list(said) == []
    for told in (Plain.writes(options), Plain.heard_as("it", options), Plain.functions(), Plain.preflight(options)):
        assert list(told) == []
    assert Plain.carries_votes(options) is False
    assert Plain.anonymise(options, [], Shift(0, 0), True) is None
    flags = Plain.runs_by_itself, Plain.elects, Plain.simulates, Plain.safe, Plain.replays
    assert (flags, Plain.Options) == ((False,) * 5, None)


def test_the_status_keeps_its_order() -> None:
    class Ordered(PluginBase):
        def get_status(self) -> OrderedDict[str, int]:
            return OrderedDict([("z", 1), ("a", 2)])

    assert list(Ordered("mine", {}).get_status()) == ["z", "a"]


def test_quitting_asks_the_gateway_by_name_and_is_harmless_without_one() -> None:
    made = PluginBase("mine", {})
    made.quit()
    asked: list[str] = []
    with World(quit=asked.append).hosting():
        made = PluginBase("mine", {})
    made.quit()
    assert asked == ["mine"]


# -- options -----------------------------------------------------------------------------------------------------------


class Serial(Options, frozen=True, kw_only=True):
    port: str
    baud: Annotated[int, msgspec.Meta(ge=50)] = 4800

    def __post_init__(self) -> None:
        if self.port == "nowhere":
            raise ValueError("port leads nowhere")


class Declared(PluginBase[Serial]):
    pass


def test_what_a_plugin_adds_it_removes_by_its_data(db: Database) -> None:
    with World(db).hosting():
        plugin = PluginBase("it", {})
    heard: list[Any] = []

    def hear(key: str, value: Any, udata: Any) -> None:
        heard.append(udata)

    for udata in ([1], [2], None):
        plugin.db_callback_add("IAS", hear, udata)
    plugin.db_callback_del("IAS", hear, [1])
    plugin.db_callback_del("ALT", hear)
    assert [udata for _, _, udata in plugin._callbacks] == [[2], None]
    plugin.db_write("IAS", 1.0)
    assert heard == [[2], None]
    plugin.db_callback_del("*", hear)
    assert plugin._callbacks == []
    plugin.db_callback_add("IAS", hear)
    plugin.shutdown()
    assert plugin._callbacks == []


def test_a_callback_is_removed_only_with_its_own_function_and_data() -> None:
    made = PluginBase("mine", {})
    heard: list[str] = []

    def one(key: str, value: Any, udata: Any) -> None:
        heard.append("one")

    def other(key: str, value: Any, udata: Any) -> None:
        heard.append("other")

    def third(key: str, value: Any, udata: Any) -> None:
        heard.append("third")

    nothing_equals_it = float("nan")
    made.db_callback_add("IAS", one, nothing_equals_it)
    made.db_callback_add("*", other)
    made.db_callback_add("IAS", third)
    made.db_callback_del("IAS", other)
    made.db_callback_del("IAS", one, "another")
    made.db_write("IAS", 1.0)
    assert sorted(heard) == ["one", "other", "third"]
    made.db_callback_del("IAS", one, nothing_equals_it)
    assert [function for _, function, _ in made._callbacks] == [other, third]
    made.shutdown()
    made.db_write("IAS", 2.0)
    assert sorted(heard) == ["one", "other", "third"]


def test_the_gateway_looks_at_once_at_a_plugin_that_is_done() -> None:
    said: list[str | None] = []
    with World(poke=lambda: said.append(made.done_with)).hosting():
        made = PluginBase("mine", {})
    made.done("the flight is over")
    assert said == ["the flight is over"]


def test_a_plugin_that_has_ended_offers_nothing(db: Database) -> None:
    world = World(db)
    with world.hosting():
        plugin = PluginBase("it", {})
    plugin.offer("zero", lambda words: "done")
    assert world.offered("zero") is not None
    plugin.done()
    assert plugin.done_with == "its work is done"
    plugin.done("the flight is over")
    assert plugin.done_with == "the flight is over"
    plugin.shutdown()
    assert world.offered("zero") is None


def test_a_plugin_gets_the_board_and_the_quorum_of_its_gateway(db: Database) -> None:
    then = datetime(2026, 5, 4, tzinfo=UTC)
    world = World(db, utc=lambda: then)
    with world.hosting():
        plugin = PluginBase("it", {})
    assert plugin.utc() is then
    assert plugin.notices is world.notices
    assert plugin.quorum is world.quorum
    assert plugin.db is db


def test_a_plugin_knows_whether_it_is_part_of_a_replay() -> None:
    for world, replays in ((World(), False), (World(adopt=lambda worker: None), True)):
        with world.hosting():
            assert PluginBase("x", {}).replaying is replays


def test_declared_options_become_an_object() -> None:
    made = Declared("gps", {"port": "/dev/ttyS0", "CONFIGPATH": "/etc/fixgw"})
    assert (made.options.port, made.options.baud) == ("/dev/ttyS0", 4800)
    with pytest.raises(AttributeError):
        made.options.port = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({}, "missing required field `port`"),
        ({"port": "x", "bauds": 1}, "unknown field `bauds`"),
        ({"port": "x", "baud": "4800"}, "Expected `int`"),
        ({"port": "x", "baud": 1}, ">= 50"),
        ({"port": "nowhere"}, "leads nowhere"),
    ],
)
def test_invalid_options_are_errors(config: dict[str, Any], complaint: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=complaint):
        Declared("gps", config)


def test_only_the_plugin_checks_beyond_the_declaration(db: Database) -> None:
    assert list(PluginBase.check(None, db)) == []
    assert PluginBase("mine", {"whatever": object()}).options is None


# -- back-off ----------------------------------------------------------------------------------------------------------


def test_delays_double_up_to_a_cap_until_reset() -> None:
    backoff = Backoff(0.5, 3)
    assert [backoff.next() for _ in range(5)] == [0.5, 1, 2, 3, 3]
    backoff.reset()
    assert backoff.next() == 0.5


def test_a_cap_below_the_first_delay_does_not_shorten_it() -> None:
    backoff = Backoff(5, 1)
    assert [backoff.next(), backoff.next()] == [5, 5]


class Lines(Options, frozen=True, kw_only=True):
    lines: int = 1


LinesT = TypeVar("LinesT", bound=Options, default=Lines)


class Reader(Poller[LinesT]):
    """A base class that leaves the type of its options open."""


class MoreLines(Lines, frozen=True, kw_only=True):
    more: int = 2


def test_the_type_argument_declares_the_options() -> None:
    class Ours(Reader[MoreLines]):
        pass

    class Theirs(Ours):
        pass

    class Default(Reader):
        pass

    assert (Ours.Options, Theirs.Options, Default.Options) == (MoreLines, MoreLines, Lines)
    assert Ours("x", {"lines": 5}).options.more == 2


def test_without_a_type_argument_nothing_is_declared() -> None:
    class Old(Poller):
        pass

    class Anything(Poller[Any]):
        pass

    assert Old.Options is Anything.Options is PluginBase.Options is None


def test_options_in_the_class_override_a_type_argument() -> None:
    class Both(Reader[MoreLines]):
        Options = Serial

    assert Both.Options is Serial


@pytest.mark.parametrize("argument", [int, "MoreLines", msgspec.Struct])
def test_a_type_argument_must_be_options(argument: Any) -> None:
    with pytest.raises(TypeError, match="are not derived from"):
        types.new_class("Wrong", (Reader[argument],))


def test_set_up_runs_after_that_of_the_bases() -> None:
    class Ours(Reader[MoreLines]):
        def __post_init__(self) -> None:
            super().__post_init__()
            self.counts["lines"] = self.options.lines

    class Theirs(Ours):
        def __init__(self, name: str, config: dict[str, Any], config_meta: Any = None) -> None:
            super().__init__(name, config, config_meta)
            self.counts["more"] = 0

    class Mixin(PluginBase):
        def __post_init__(self) -> None:
            super().__post_init__()
            self.mixed = self.name

    class Mixed(Ours, Mixin):
        pass

    assert Theirs("x", {"lines": 5}).counts == {"lines": 5, "more": 0}
    assert Mixed("x", {"lines": 5}).mixed == "x"


ExtraT = TypeVar("ExtraT", default=int)


def test_the_options_are_found_among_other_type_arguments() -> None:
    class Mixin(Generic[ExtraT]):
        def __init_subclass__(cls, *, flavour: str = "", **arguments: Any) -> None:
            super().__init_subclass__(**arguments)
            cls.flavour = flavour

        flavour: str

    class Both(Reader[LinesT], Generic[LinesT, ExtraT]):
        pass

    class Mixed(Mixin[int], Reader[MoreLines], flavour="sweet"):
        pass

    class Trailing(Reader[MoreLines], Mixin[int], flavour="sour"):
        pass

    assert Both[MoreLines, int].Options is Lines, "an alias is no class"
    assert types.new_class("Filled", (Both[MoreLines, int],)).Options is MoreLines  # type: ignore[attr-defined]
    assert (Mixed.Options, Mixed.flavour) == (MoreLines, "sweet")
    assert (Trailing.Options, Trailing.flavour) == (MoreLines, "sour")


# Each way to write a plugin; `make lint` checks that mypy --strict accepts it and infers the right types.


class Typed(PluginBase[Serial]):
    def __post_init__(self) -> None:
        super().__post_init__()
        self.port = assert_type(self.options, Serial).port

    @classmethod
    def check(cls, options: Serial, db: Database) -> Iterable[tuple[str, str]]:
        yield "port", options.nonsense  # type: ignore[attr-defined]


class Untyped(PluginBase):
    Options = Serial

    def __init__(self, name: str, config: dict[str, Any], config_meta: Any = None) -> None:
        super().__init__(name, config, config_meta)
        self.port: str = self.options.port

    @classmethod
    def check(cls, options: Any, db: Database) -> Iterable[tuple[str, str]]:
        yield "port", options.port


class OnADriversBase(Instrument):
    def protocol(self) -> Protocol:
        assert_type(self.options, InstrumentOptions)
        raise NotImplementedError


class MoreOptions(InstrumentOptions, frozen=True, kw_only=True):
    more: int = 1


class TypedOnADriversBase(Instrument[MoreOptions]):
    def protocol(self) -> Protocol:
        assert_type(self.options, MoreOptions)
        raise NotImplementedError


def test_a_plugin_can_be_typed_or_untyped() -> None:
    for kind in Typed, Untyped:
        assert kind.Options is Serial
        assert kind("gps", {"port": "/dev/x"}).port == "/dev/x"
    assert (OnADriversBase.Options, TypedOnADriversBase.Options) == (InstrumentOptions, MoreOptions)
