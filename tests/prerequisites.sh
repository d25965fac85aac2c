#!/bin/sh
# Says in one sentence what to install when something that the Makefile needs is missing. $1: the Python to use.
python=${1:-python3}
if ! command -v "$python" >/dev/null 2>&1; then
    echo "Python is missing: sudo apt install python3 python3-venv (or set PYTHON=/path/to/python3)." >&2
    exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "Python 3.11 or newer is needed, and $python is $("$python" -V 2>&1): set PYTHON=/path/to/python3." >&2
    exit 1
fi
if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
    echo "Python's venv module is missing: sudo apt install python3-venv." >&2
    exit 1
fi
