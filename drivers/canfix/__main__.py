"""``python -m fixgw.drivers.canfix [2023]`` prints the default map for the packaged database."""

from __future__ import annotations

import argparse
import sys

from fixgw import configuration
from fixgw.drivers.canfix.mapping import as_text
from fixgw.drivers.canfix.table import CURRENT, REVISIONS, load

if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m fixgw.drivers.canfix", description="Print the default CAN-FIX map.")
    parser.add_argument("table", nargs="?", type=int, choices=REVISIONS, default=CURRENT, help="whose identifiers")
    database = configuration.load(configuration.packaged() / configuration.NAME).make_database()
    sys.stdout.write(as_text(load(parser.parse_args().table), database))
