"""``python -m fixgw`` is ``fixgw``."""

import sys

from fixgw.cli import main

if __name__ == "__main__":
    sys.exit(main())
