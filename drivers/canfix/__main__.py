"""``python -m fixgw.drivers.canfix [2023]`` prints the default map for the packaged database."""

from __future__ import annotations

import sys

from fixgw import configuration
from fixgw.drivers.canfix.mapping import as_text
from fixgw.drivers.canfix.table import CURRENT, load

if __name__ == "__main__":
    database = configuration.load(configuration.packaged() / configuration.NAME).make_database()
    sys.stdout.write(as_text(load(int(sys.argv[1]) if sys.argv[1:] else CURRENT), database))
