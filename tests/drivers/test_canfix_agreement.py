"""Random settings on a CAN-FIX bus on which frames are late, refused and cross: all nodes agree, and fall silent."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable

import pytest

from fixgw.drivers.canfix import protocol as cf

from .test_canfix_settings import ASKER, OWNER, Bare

STEP_S = 0.02  # between two ticks of a node
PROMPT_S = 0.0005  # what a frame takes on an idle bus


class Bus:
    """Two or three nodes on one clock. `late` is the longest time in seconds that a frame waits, in the adapter that
    sends it and again in the one that receives it; `refused` is the share that an adapter refuses after it took it."""

    def __init__(self, seed: int, late: float, refused: float) -> None:
        self._dice = random.Random(seed)
        self._late, self._refused = late, refused
        self.now = 100.0
        self.sent = 0
        self._order = itertools.count()
        self._coming: list[tuple[float, int, Callable[[], None]]] = []
        texts = [self._dice.choice((OWNER, ASKER)) for _ in range(self._dice.choice((2, 3)))]
        self.nodes = [Bare(10 + n, text) for n, text in enumerate(texts)]
        # A report that waits counts in the end. Of two owners, which no bus should have, it may be the older value.
        self._ages = texts.count(OWNER) < 2
        self._out_at = dict.fromkeys(self.nodes, 0.0)
        self._in_at = dict.fromkeys(self.nodes, 0.0)
        for node in self.nodes:
            node.outputs.send = lambda frame, node=node: self._send(node, frame)  # type: ignore[misc]

    def _at(self, when: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._coming, (when, next(self._order), event))

    def _delay(self) -> float:
        return PROMPT_S if self._dice.random() < 0.6 else self._dice.random() * self._late

    def _send(self, sender: Bare, frame: cf.Frame) -> bool:
        self.sent += 1
        when = self._out_at[sender] = max(self.now + self._delay(), self._out_at[sender] + 1e-4)
        if self._dice.random() < self._refused:
            self._at(when, lambda: sender.outputs.note_unsent(*frame))
        else:
            self._at(when, lambda: self._on_the_wire(sender, frame))
        return True

    def _on_the_wire(self, sender: Bare, frame: cf.Frame) -> None:
        for node in self.nodes:
            if node is not sender:
                when = self._in_at[node] = max(self.now + self._delay(), self._in_at[node] + 1e-5)
                self._at(when, lambda node=node: self._receive(node, frame))  # type: ignore[misc]

    def _receive(self, node: Bare, frame: cf.Frame) -> None:
        message = node.codec.decode(*frame)
        if isinstance(message, cf.Value):
            node.receive(message.node, float(message.value))  # type: ignore[arg-type]
        elif isinstance(message, cf.ParameterSet):
            node.inputs.set(message)

    def _set_clocks(self, now: float) -> None:
        self.now = now
        for node in self.nodes:
            node.now = now

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            step = min(self.now + STEP_S, end)
            while self._coming and self._coming[0][0] <= step:
                when, _, event = heapq.heappop(self._coming)
                self._set_clocks(when)
                event()
            self._set_clocks(step)
            for node in self.nodes:
                node.outputs.tick()
                if self._ages:
                    node.db.age()

    def turn_knobs(self) -> None:
        for n in range(self._dice.randint(1, 6)):
            self._dice.choice(self.nodes).db.write("BARO", 29.0 + n / 100, "knob")
            self.run(self._dice.choice((0.0, 0.03, 0.2, 0.5, 1.5)))

    def calm_down(self) -> None:
        self._late = self._refused = 0.0


@pytest.mark.parametrize(("late", "refused"), [(0.0, 0.0), (0.2, 0.0), (0.6, 0.2), (1.0, 0.1)])
def test_nodes_agree_in_the_end_and_fall_silent(late: float, refused: float) -> None:
    for seed in range(40):
        bus = Bus(seed, late, refused)
        bus.run(1.0)
        bus.turn_knobs()
        bus.calm_down()
        bus.run(8.0)
        assert len({node.baro for node in bus.nodes}) == 1, f"seed {seed}: {[node.baro for node in bus.nodes]}"
        sent = bus.sent
        bus.run(3.0)
        assert bus.sent == sent, f"seed {seed}: the nodes keep sending"
