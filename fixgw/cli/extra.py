"""The command that installs optional libraries: install-extra."""

from __future__ import annotations

import argparse
import shlex
import subprocess

from fixgw.cli import EXIT_DONE, EXIT_FAILED, Subparsers, add_command, complain
from fixgw.cli.text import table
from fixgw.extras import command, extras


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    parser = add_command(
        subparsers,
        "install-extra",
        install_extra,
        "Runs the command that suits the way in which this gateway is installed: a virtual environment, /opt/fixgw, a\n"
        "Debian package, or the system's Python. Without NAME it lists the extras. It needs the network.",
        "  fixgw install-extra\n  fixgw install-extra i2c\n  fixgw install-extra --print i2c",
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="the extra, such as i2c")
    parser.add_argument("--print", action="store_true", help="only print the command")


def install_extra(args: argparse.Namespace) -> int:
    if args.name is None:
        print(*table((name, ", ".join(needs)) for name, needs in extras().items() if name), sep="\n")
        return EXIT_DONE
    wanted = command(args.name)
    print(shlex.join(wanted), flush=True)
    if args.print:
        return EXIT_DONE
    try:
        code = subprocess.run(wanted, check=False).returncode
    except OSError as error:
        return complain(f"{wanted[0]}: {error.strerror}")
    if code:
        complain(f"this command failed with exit code {code}; its messages are above")
        return EXIT_FAILED
    print("installed; restart the gateway to use it")
    return EXIT_DONE
