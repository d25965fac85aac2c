"""Several gateways in one process: each has its own database, plugins, status, quorum and shutdown."""

from __future__ import annotations

import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fixgw import configuration, database, quorum, status, world
from fixgw.database import Database, Definition
from fixgw.gateway import Gateway
from fixgw.netfix import Client
from fixgw.runner import State

pytestmark = pytest.mark.slow

PLUGIN = """
import threading
import plugin

class Plugin(plugin.PluginBase):
    def __init__(self, name, config):
        super().__init__(name, config)
        self.db_write("IAS", 10.0)  # there from the beginning
        self.heard = []
        self.die = threading.Event()
        self.thread = None

    def run(self):
        self.db_callback_add("IAS", self.hear)
        self.thread = threading.Thread(target=self.work)
        self.thread.start()

    def hear(self, key, value, udata):
        self.heard.append(value[0])

    def work(self):
        self.die.wait(30)
        if not self.getout:
            raise RuntimeError("the thread has had enough")

    getout = False

    def stop(self):
        self.getout = True
        self.die.set()
        if self.thread is not None:
            self.thread.join(2)
"""

CONFIGURATION = """
database file: "{CONFIG}/database.yaml"
connections:
  it: {module: worlds_test_plugin, restart_delay: 0.05}
  netfix: {module: fixgw.plugins.netfix, port: 0, admin: [127.0.0.1]}
"""
ITEMS = "entries: [{key: IAS, type: float, min: 0, max: 1000}]"


class Running:
    """One gateway on its own thread."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        (directory / "default.yaml").write_text(CONFIGURATION)
        (directory / "database.yaml").write_text(ITEMS)
        self.gateway = Gateway(configuration.load(directory / "default.yaml"))
        self.db = self.gateway.database
        self.thread = threading.Thread(target=self.gateway.run_forever, args=(False,), name=directory.name)
        self.thread.start()
        until(lambda: all(self.state(name) is State.RUNNING for name in ("it", "netfix")))

    def state(self, name: str) -> State:
        runner = self.gateway.runners.get(name)
        return State.LOADED if runner is None else runner.state

    @property
    def plugin(self) -> Any:
        return self.gateway.runners["it"].plugin

    def client(self) -> Client:
        netfix: Any = self.gateway.runners["netfix"].plugin
        return Client("127.0.0.1", netfix.port)

    def stop(self) -> None:
        self.gateway.request_stop()
        self.thread.join(20)
        assert not self.thread.is_alive()


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Running]]:
    (tmp_path / "worlds_test_plugin.py").write_text(textwrap.dedent(PLUGIN))
    monkeypatch.syspath_prepend(str(tmp_path))
    gateways = []
    try:
        for name in ("one", "two", "three"):
            gateways.append(Running(tmp_path / name))  # noqa: PERF401 - the made ones are stopped
        yield gateways
    finally:
        for gateway in gateways:
            gateway.stop()


def test_a_write_in_one_gateway_is_not_seen_in_the_others(three: list[Running]) -> None:
    for number, each in enumerate(three, start=1):
        assert each.plugin.db is each.db
        assert each.plugin.db_read("IAS")[0] == 10.0
        each.plugin.db_write("IAS", 100.0 * number)
        each.plugin.db_get_item("IAS").value = 100.0 * number + 1
    assert [each.db.read("IAS").value for each in three] == [101.0, 201.0, 301.0]
    assert [each.plugin.heard for each in three] == [[100.0, 101.0], [200.0, 201.0], [300.0, 301.0]]
    for number, each in enumerate(three, start=1):
        with each.client() as client:
            assert client.read("IAS").value == 100.0 * number + 1
    three[1].stop()
    assert [len(each.db.legacy_callbacks) for each in three] == [1, 0, 1]


def test_each_gateway_has_its_own_status(three: list[Running]) -> None:
    for name, each in zip(("one", "two", "three"), three, strict=True):
        with each.client() as client:
            tree = client.status()
        assert Path(tree["configuration"]["file"]).parent.name == name
        assert each.plugin._gateway.status()["configuration"] == tree["configuration"]


def test_quitting_ends_only_its_own_gateway(three: list[Running]) -> None:
    three[1].plugin.quit()
    three[1].thread.join(20)
    with three[2].client() as client:
        client.kill()
    three[2].thread.join(20)
    assert [each.thread.is_alive() for each in three] == [True, False, False]
    assert three[0].state("it") is State.RUNNING


def test_a_thread_that_dies_fails_the_plugin_of_its_gateway(
    three: list[Running], caplog: pytest.LogCaptureFixture
) -> None:
    plugins = [each.plugin for each in three]
    plugins[1].die.set()
    until(lambda: three[1].gateway.runners["it"].restarts == 1)
    until(lambda: three[1].state("it") is State.RUNNING)
    assert three[1].plugin is not plugins[1]
    assert [three[n].gateway.runners["it"].restarts for n in (0, 2)] == [0, 0]
    assert [three[n].plugin for n in (0, 2)] == [plugins[n] for n in (0, 2)]
    assert len([r for r in caplog.records if r.msg == "thread %s died"]) == 1


def test_each_gateway_has_its_own_quorum(three: list[Running]) -> None:
    three[2].plugin.quorum.leader = False
    quorum.nodeid = 7
    assert [each.plugin.quorum.leader for each in three] == [True, True, False]
    assert [each.plugin.quorum.nodeid for each in three] == [7, None, None]


def test_calls_without_a_gateway_go_to_the_first_running_one(three: list[Running]) -> None:
    def check(first: Running, nodeid: int) -> None:
        assert database.current() is first.db
        database.write("IAS", 55.0 + nodeid)
        assert first.db.read("IAS").value == database.read("IAS")[0] == 55.0 + nodeid
        assert status.get_dict()["configuration"]["file"] == str(first.gateway.configuration.file)
        quorum.nodeid = nodeid
        assert first.plugin.quorum.nodeid == nodeid

    before = three[2].db.read("IAS")
    check(three[0], 1)
    three[0].stop()
    assert [each.state("it") for each in three[1:]] == [State.RUNNING, State.RUNNING]
    check(three[1], 2)
    assert three[2].db.read("IAS") == before
    hook = threading.excepthook
    three[1].stop()
    check(three[2], 3)
    assert threading.excepthook is hook, "it exists as long as a gateway runs"
    three[2].stop()
    assert threading.excepthook is not hook
    assert database.current() is world.alone().database
    assert status.get_dict() == {}


def test_a_bound_database_belongs_to_no_gateway(three: list[Running]) -> None:
    before, bound = world.alone().database, Database([Definition(key="IAS")])
    database.bind(bound)
    try:
        assert database.current() is three[0].db
        for each in three:
            each.stop()
        assert database.current() is bound
    finally:
        database.bind(before)
