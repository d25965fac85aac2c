"""A virtual FlightGear, made from README.protocol and recorded lines: sends and takes records of a protocol file, and
serves properties by HTTP.

It reads the file that it is given, like the real one. Text that is no number sets a property to 0. Set `loading` at any
time: it then sends zeros, as the real one does for seconds.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.network import NetworkInstrument

SEPARATORS = {"newline": "\n", "cr": "\r", "crlf": "\r\n", "tab": "\t", "space": " ", "none": ""}


def properties(aircraft: Aircraft) -> dict[str, float]:
    """The property tree, in FlightGear's units."""
    v = aircraft.numbers()
    engine, instruments = "/engines/engine[0]/", "/instrumentation/"
    return {
        "/position/latitude-deg": v["LAT"],
        "/position/longitude-deg": v["LONG"],
        "/position/altitude-ft": v["TALT"],
        "/position/altitude-agl-ft": v["AGL"],
        "/velocities/groundspeed-kt": v["GS"],
        "/orientation/track-deg": v["TRACK"],
        "/orientation/track-magnetic-deg": v["TRACKM"],
        "/orientation/pitch-deg": v["PITCH"],
        "/orientation/roll-deg": v["ROLL"],
        "/orientation/heading-magnetic-deg": v["HEAD"],
        "/environment/temperature-degc": v["OAT"],
        "/systems/electrical/volts": v["VOLT"],
        instruments + "airspeed-indicator/indicated-speed-kt": v["IAS"],
        instruments + "airspeed-indicator/true-speed-kt": v["TAS"],
        instruments + "altimeter/indicated-altitude-ft": v["ALT"],
        instruments + "vertical-speed-indicator/indicated-speed-fpm": v["VS"],
        engine + "rpm": v["TACH1"],
        engine + "mp-inhg": v["MAP1"],
        engine + "oil-pressure-psi": v["OILP1"],
        engine + "oil-temperature-degf": v["OILT1"] * 1.8 + 32.0,
        engine + "egt-degf": v["EGT11"] * 1.8 + 32.0,
        engine + "cht-degf": v["CHT11"] * 1.8 + 32.0,
        engine + "fuel-flow-gph": v["FUELF1"],
        "/consumables/fuel/tank[0]/level-gal_us": v["FUELQ1"],
        "/consumables/fuel/tank[1]/level-gal_us": v["FUELQ2"],
    }


class Field(NamedTuple):
    node: str
    format: str
    factor: float
    offset: float


class Block:
    """An <output> or <input> of a protocol file."""

    def __init__(self, element: ElementTree.Element) -> None:
        def word(name: str) -> str:
            text = element.findtext(name, "")
            return SEPARATORS.get(text, text)

        self.end, self.between = word("line_separator"), word("var_separator")
        self.fields = [
            Field(
                chunk.findtext("node", ""),
                chunk.findtext("format", "%d"),
                float(chunk.findtext("factor", "1")),
                float(chunk.findtext("offset", "0")),
            )
            for chunk in element.iter("chunk")
        ]

    def line(self, values: dict[str, float]) -> bytes:
        texts = [each.format % (values.get(each.node, 0.0) * each.factor + each.offset) for each in self.fields]
        return (self.between.join(texts) + self.end).encode()

    def read(self, line: str) -> dict[str, float]:
        texts = line.split(self.between) if self.between else [line]
        return {each.node: _number(text) for each, text in zip(self.fields, texts, strict=False)}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


class Fgfs(NetworkInstrument):
    """The simulator: takes records on its port, sends them to `output`."""

    NAME = "fgfs"
    WHAT = "FlightGear: sends and takes lines of its generic protocol"
    PORT = 5501
    RATE_HZ = 10.0

    def __init__(self, host: str = "127.0.0.1", port: int | None = None, file: Path | None = None) -> None:
        file = file or Path(__file__).parents[2] / "drivers/fgfs/fixgw.xml"
        generic = ElementTree.parse(file).getroot().find("generic")
        assert generic is not None
        self.blocks = {name: Block(found) for name in ("output", "input") if (found := generic.find(name)) is not None}
        self.loading = False
        self.hung = False
        #: The property tree, and what was set in it.
        self.properties: dict[str, float] = {}
        self.taken: dict[str, float] = {}
        self._next: float | None = None
        super().__init__(host, port)

    def tick(self, aircraft: Aircraft, now: float) -> None:
        for datagram, _ in self.receive():
            line, end, _ = datagram.decode("latin-1").partition("\n")
            if end and "input" in self.blocks:
                self.taken |= self.blocks["input"].read(line.rstrip("\r"))
        if not self.hung:
            self.properties = {} if self.loading else properties(aircraft) | self.taken
        if self.output is not None and (self._next is None or now >= self._next - 1e-6):
            self._next = max((self._next or now) + 1.0 / self.RATE_HZ, now)
            self.send(self.blocks["output"].line(self.properties), self.output)


class WebServer:
    """FlightGear's ``--httpd``, with ``/json/PATH`` only.

    While it is `frozen` it closes connections without an answer. While it `drips`, an answer comes byte by byte, and
    never ends.
    """

    def __init__(self, simulator: Fgfs) -> None:
        self.asked: list[str] = []
        self.frozen, self.drips = threading.Event(), threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.removeprefix("/json")
                outer.asked.append(path)
                if outer.frozen.is_set():
                    return
                if outer.drips.is_set():
                    self.send_response(200)
                    self.end_headers()
                    with suppress(OSError):
                        while outer.drips.is_set():
                            self.wfile.write(b" ")
                            self.wfile.flush()
                            time.sleep(0.05)
                    return
                if path not in simulator.properties:
                    self.send_error(404)
                    return
                value = simulator.properties[path]
                answer = {
                    "path": path,
                    "name": path.rpartition("/")[2],
                    "value": value,
                    "type": "double",
                    "nChildren": 0,
                }
                body = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *facts: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
