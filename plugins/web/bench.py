"""The bench: the virtual panel of this computer, and the scenarios of the virtual aircraft in this process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fixgw.plugins.web.guard import Act, Refusal

if TYPE_CHECKING:
    from fixgw.hw_sim.scenario import Play, Scenario

LONGEST_COMMAND = 200
PANEL_S = 5.0  # the longest wait for the panel
MAX_ANSWER_BYTES = 100_000


class BenchAct(Act):
    NEEDS = {"GET": "bench", "POST": "bench"}

    #: The scenarios that the page has begun, by name.
    _begun: dict[str, Scenario] = {}

    def play(self) -> Play | None:
        """What happens to the virtual aircraft in this process, if there is one."""
        from fixgw.hw_sim import world

        flying = world.current()
        return None if flying is None else flying.play


class Bench(BenchAct):
    async def get(self) -> None:
        self.reply(await self.do(self._overview))

    def _overview(self) -> dict[str, Any]:
        from fixgw.hw_sim import scenario as scenarios
        from fixgw.hw_sim.panel_server import COMMANDS

        play = self.play()
        names = {} if play is None else {name: scenarios.load(p).description for name, p in scenarios.shipped().items()}
        playing = None
        if play is not None and play.current is not None:
            playing = next((name for name, begun in self._begun.items() if begun is play.current), "")
        try:
            panel = told(self.hub.options.panel)
        except (OSError, ValueError):
            panel = None
        return {"scenarios": names, "playing": playing, "panel": panel, "commands": COMMANDS}


class Scenarios(BenchAct):
    async def post(self) -> None:
        body = self.body()
        name = body.get("name")
        play = self.play()
        if play is None:
            raise Refusal(409, "absent", "no virtual aircraft flies in this process: `fixgw demo` has one")
        chosen = None if name is None else await self.do(lambda: self._load(name))
        play.change(chosen)
        self.say("ends the scenario" if name is None else f"begins the scenario {name}")
        self.reply({})

    def _load(self, name: Any) -> Scenario:
        from fixgw.hw_sim import scenario as scenarios

        path = scenarios.shipped().get(name) if isinstance(name, str) else None
        if path is None:
            raise Refusal(404, "file", f"there is no scenario {name!r}")
        chosen = scenarios.load(path)
        self._begun[name] = chosen
        return chosen


class Panel(BenchAct):
    async def post(self) -> None:
        command = self.body().get("command")
        if not isinstance(command, str) or len(command) > LONGEST_COMMAND or not command.isprintable():
            raise Refusal(400, "value", "`command` is a text of one line")
        try:
            panel = await self.do(lambda: told(self.hub.options.panel, command))
        except OSError as error:
            raise Refusal(409, "absent", f"there is no panel: {error.strerror or error}") from None
        self.reply({"panel": panel})


def told(path: str, command: str = "") -> dict[str, Any]:
    """The state of the panel whose socket is at `path`, after a command. Raises ValueError with what is wrong with it,
    and OSError if there is no panel."""
    from fixgw.hw_sim import panel_server

    with panel_server.connect(path) as link:
        link.settimeout(PANEL_S)
        link.sendall(f"{command}\n".encode())
        link.shutdown(1)  # nothing follows: it closes the connection after its last answer
        heard = b""
        while (data := link.recv(65536)) and len(heard) < MAX_ANSWER_BYTES:
            heard += data
    state: dict[str, Any] = {}
    for line in heard.splitlines():
        answer = json.loads(line)
        if "error" in answer:
            raise ValueError(answer["error"])
        state = answer
    return state
