"""Pair browsers with the web page of a gateway on this computer."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

from fixgw.cli import EXIT_DONE, EXIT_USAGE, Subparsers, add_command, complain, text
from fixgw.plugins.web.access import ROLES, Tokens, status

if TYPE_CHECKING:
    from fixgw.plugins.web import Options

MODULE = "fixgw.plugins.web"
SERVICE = Path("/var/lib/fixgw")  # the state of the gateway that systemd runs


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    group = add_command(
        subparsers,
        "web",
        lambda args: EXIT_USAGE,  # never reached: argparse requires a command
        "`pair` prints a code, good once and for five minutes, and a QR code that opens the page with it. `list`\n"
        "shows the paired browsers, `revoke` forgets one at once. If systemd runs the gateway, use `sudo fixgw web`.",
        "  fixgw web pair\n  fixgw web pair --role write --name 'Tablet on the panel'\n  fixgw web list\n"
        "  fixgw web revoke 'Tablet on the panel'",
    )
    commands = group.add_subparsers(metavar="COMMAND", required=True, title="commands")
    pair = commands.add_parser("pair", help="print a code that pairs a browser", allow_abbrev=False)
    pair.add_argument("--role", choices=ROLES, default="read", help="what the browser may do (default: read)")
    pair.add_argument("--name", default="", help="what to call the browser in `fixgw web list`")
    pair.add_argument("--config-file", metavar="FILE", help="the configuration, for the address of the page")
    pair.set_defaults(run=_pair)
    shown = commands.add_parser("list", help="list the paired browsers", allow_abbrev=False)
    shown.add_argument("--json", action="store_true", help="print JSON")
    shown.set_defaults(run=_list)
    revoke = commands.add_parser("revoke", help="forget a paired browser", allow_abbrev=False)
    revoke.add_argument("name", metavar="NAME", help="its name in `fixgw web list`")
    revoke.set_defaults(run=_revoke)


def _tokens() -> Tokens:
    """Those of the gateway that systemd runs, if this is root, or else of this user's."""
    service = os.geteuid() == 0 and SERVICE.is_dir() and not os.environ.get("STATE_DIRECTORY")
    return Tokens(SERVICE / "web.json" if service else None)


def _pair(args: argparse.Namespace) -> int:
    tokens = _tokens()
    try:
        code = tokens.pair(args.role, args.name)
    except ValueError as error:
        return complain(str(error))
    except OSError as error:
        return complain(f"cannot write {tokens.path}: {error.strerror or error}")
    text.show(f"Code: {code}   (good once, within five minutes, for the role {args.role})")
    addresses = _addresses(args.config_file)
    if not addresses:
        text.show("Type it into the page's form for pairing.")
        return EXIT_DONE
    text.show("Open one of these in the browser, or type the code into the page:")
    text.show(*(f"  {address}#pair={code}" for address in addresses))
    if sys.stdout.isatty():
        _show_qr(f"{addresses[0]}#pair={code}")
    return EXIT_DONE


def _show_qr(address: str) -> None:
    try:
        import segno
    except ModuleNotFoundError:
        return
    segno.make(address, micro=False).terminal(compact=True)


def _addresses(config_file: str | None) -> list[str]:
    """Where the page of the configuration is found: the addresses that browsers elsewhere can use first."""
    from fixgw import configuration
    from fixgw.errors import ConfigurationError
    from fixgw.kit.options import convert
    from fixgw.net.access import own_addresses

    try:
        loaded, _ = configuration.load_in_part(configuration.find(config_file))
    except ConfigurationError:
        return []
    found = []
    for connection in loaded.connections:
        if connection.module == MODULE and connection.plugin.Options is not None:
            given = {name: value for name, value in connection.options.items() if name != "CONFIGPATH"}
            options = cast("Options", convert(given, connection.plugin.Options))
            hosts = own_addresses() if options.host in ("0.0.0.0", "::", "") else [options.host]
            found += [url(options, host) for host in (*options.names, *hosts)]
    return found


def url(options: Options, host: str) -> str:
    """The address of the page."""
    scheme, usual = ("https", 443) if options.certificate else ("http", 80)
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}/" if options.port == usual else f"{scheme}://{host}:{options.port}/"


def _list(args: argparse.Namespace) -> int:
    try:
        paired = status(_tokens().all())
    except OSError as error:
        return complain(str(error))
    if args.json:
        text.show(*json.dumps(paired, indent=2).splitlines())
    else:
        rows = [(each["name"], each["role"], f"since {each['paired']}") for each in paired]
        text.show(*(text.table(rows) or ["no browser is paired"]))
    return EXIT_DONE


def _revoke(args: argparse.Namespace) -> int:
    tokens = _tokens()
    try:
        if tokens.revoke(args.name):
            text.show(f"{args.name}: revoked")
            return EXIT_DONE
    except OSError as error:
        return complain(f"cannot write {tokens.path}: {error.strerror or error}")
    return complain(f"no browser {args.name!r} is paired: see `fixgw web list`")
