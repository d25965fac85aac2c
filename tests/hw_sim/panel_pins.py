"""The virtual pins of `fixgw.hw_sim.gpio`, with a server for `fixgw sim panel`.

`fixgw sim panel` shows a gateway that uses this library. It is the same bank of pins, under the same names. The first
`setmode` opens a `PanelServer` at ``$FIXGW_PANEL``, or where `fixgw sim panel` looks for it; the server ends with the
program.
"""

from __future__ import annotations

import atexit
import logging
import threading

from fixgw.hw_sim import gpio
from fixgw.hw_sim.gpio import *  # noqa: F403
from fixgw.hw_sim.panel_server import PanelServer, default_path

log = logging.getLogger(__name__)

_once = threading.Lock()  # never released: the first call opens the server


def setmode(mode: int) -> None:  # type: ignore[no-redef]
    if _once.acquire(blocking=False):
        try:
            atexit.register(PanelServer(default_path()).close)
        except OSError as error:
            log.warning("fixgw sim panel cannot reach these pins: %s: %s", default_path(), error.strerror)
    gpio.setmode(mode)
