"""What a driver must write itself is missed, instead of doing nothing for ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fixgw.drivers.links.can.frame import Frame
from fixgw.drivers.links.can.instrument import CanInstrument
from fixgw.drivers.links.can.port import Port
from fixgw.drivers.links.child import ChildPoller
from fixgw.drivers.links.chips import ChipPoller
from fixgw.drivers.links.instrument import Instrument
from fixgw.drivers.links.serial import LinkOptions, SerialPoller

CHILD: Any = ChildPoller("it", {"program": "sh"})
LINE: Any = SerialPoller("it", {"port": "loop://"})
CHIP: Any = ChipPoller("it", {})


@pytest.mark.parametrize(
    "act",
    [
        lambda: CHILD.received(b"x", True),
        lambda: LINE.received(b"x"),
        lambda: CHIP.connect(),
        lambda: CHIP.sample(),
        lambda: CHIP.place,
        lambda: CHIP.library,
        lambda: Instrument("it", {"port": "loop://"}),
        lambda: CanInstrument("it", {}),
        lambda: Port().read(0.0),
        lambda: Port().write(Frame(1)),
        lambda: LinkOptions().url,
    ],
)
def test_it_is_not_implemented(act: Callable[[], object]) -> None:
    with pytest.raises(NotImplementedError):
        act()


def test_what_a_driver_need_not_write_does_nothing() -> None:
    assert CHILD.arguments() == ()
    LINE.idle()
    LINE.flushed()
    CHIP.begin()
    port = Port()
    assert port.flush(), "there is room"
    assert (port.blocking, port.fd, port.state(), port.trouble(), port.facts()) == (False, False, "", "", {})
    port.accept(None)
    port.close()
    assert (LinkOptions().speed, LinkOptions().networks) == ("auto", None)
