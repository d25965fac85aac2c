"""The virtual pins of `fixgw.hw_sim.gpio`, with a hand on them.

A gateway that uses this library is shown by `fixgw sim panel`. It is the same bank of pins, and has the same names. The
first `setmode` opens a `PanelServer` at ``$FIXGW_PANEL``, or where `fixgw sim panel` looks for it; it ends with the
program.
"""

from __future__ import annotations

import atexit
import logging
import threading

from fixgw.hw_sim import gpio
from fixgw.hw_sim.gpio import *  # noqa: F403
from fixgw.hw_sim.panel_server import PanelServer, well_known

log = logging.getLogger(__name__)

_once = threading.Lock()  # never released: the first one opens it


def setmode(mode: int) -> None:  # type: ignore[no-redef]
    if _once.acquire(blocking=False):
        try:
            atexit.register(PanelServer(well_known()).close)
        except OSError as error:
            log.warning("no hand can get at these pins: %s: %s", well_known(), error.strerror)
    gpio.setmode(mode)
