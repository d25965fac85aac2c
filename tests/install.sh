#!/bin/sh
# Installs with pip, and says in one sentence when there is no network. $1: the Python to use; the rest is for pip.
python=$1
shift
if output=$("$python" -m pip install -qq --disable-pip-version-check --retries 2 "$@" 2>&1); then
    exit 0
fi
case $output in
*"Failed to establish a new connection"* | *"name resolution"* | *"Network is unreachable"* | *NewConnectionError* | \
    *NameResolutionError* | *ProxyError* | *"Could not find a version that satisfies the requirement setuptools"*)
    echo "The first run needs the network, to fetch libraries from PyPI: connect and run this again." >&2 ;;
*) echo "$output" >&2 ;;
esac
exit 1
