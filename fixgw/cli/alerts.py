"""The command that shows and acknowledges alerts: alerts."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fixgw.cli import EXIT_DONE, Subparsers, add_client_options, add_command, complain, span, text
from fixgw.cli.client import give, status_of, talk

if TYPE_CHECKING:
    from fixgw.netfix import Client

MODULE = "fixgw.plugins.alerts"
ABSENT = f"the gateway has no connection with the module {MODULE}: see `fixgw plugins alerts`"
SHOWN = ("active", "latched", "acknowledged")


def add_parser(subparsers: Subparsers[argparse.ArgumentParser], connection: bool = True) -> None:
    parser = add_command(
        subparsers,
        "alerts",
        talk,
        "`list` shows what is presented to the crew, the most important first. `ack` acknowledges ID, `shelve` takes\n"
        "it out of sight for TIME (60, 60s, 10m, 1h; 0 takes it back), `mute` silences the sounds for a minute, and\n"
        "`log` shows the latest changes. ID is that of an alert, or the common one of a pattern, or `level:caution`,\n"
        "or `all`. All but `list` and `log` need the permission to write.",
        "  fixgw alerts\n  fixgw alerts list --all\n  fixgw alerts ack oil-pressure\n  fixgw alerts shelve door 10m\n"
        "  fixgw alerts log",
    )
    parser.add_argument("action_", metavar="list|ack|shelve|mute|log", nargs="?", default="list", choices=list(ACTIONS))
    parser.add_argument("id", metavar="ID", nargs="?", help="the alert to acknowledge or shelve")
    parser.add_argument("time", metavar="TIME", nargs="?", type=span, help="how long to shelve it")
    parser.add_argument("--all", action="store_true", help="list every alert, whatever its state")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(action=run, usage_error=parser.error)
    if connection:
        add_client_options(parser)


def run(client: Client, args: argparse.Namespace) -> int:
    needed = {"ack": 1, "shelve": 2}.get(args.action_, 0)
    given = sum(value is not None for value in (args.id, args.time))
    if given != needed:
        args.usage_error(f"{args.action_} needs {('no more words', 'an ID', 'an ID and a TIME')[needed]}")
    return ACTIONS[args.action_](client, args)


def _status(client: Client) -> Mapping[str, Any]:
    return status_of(client, MODULE, ABSENT)


def in_status(status: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The alerts in the status, by id, in its order."""
    return {id: facts for id, facts in status.items() if isinstance(facts, dict) and "level" in facts}


def presented(status: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Those that the crew sees, or has taken out of sight."""
    return {id: facts for id, facts in in_status(status).items() if facts["state"] in (*SHOWN, "shelved")}


def described(id: str, alert: Mapping[str, Any]) -> tuple[str, ...]:
    """Its level, state with time, id, text, and whether it comes and goes."""
    state = alert["state"]
    if state == "shelved":
        state += f" for {text.duration(alert.get('shelved for', 0))}"
    elif "for" in alert:
        state += f" for {text.duration(alert['for'])}"
    return alert["level"], state, id, alert.get("text", ""), "intermittent" if alert.get("intermittent") else ""


def changes(status: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The latest changes of alerts, for people."""
    entries = [entry for entry in status.get("alert log", ()) if isinstance(entry, dict)]
    return [(e["time"], e["level"], f"{e['from']} → {e['to']}", e["id"], e["text"], _details(e)) for e in entries]


def _list(client: Client, args: argparse.Namespace) -> int:
    status = _status(client)
    alerts = in_status(status)
    wanted = alerts if args.all else presented(status)
    if args.json:
        print(json.dumps(wanted, indent=2))
        return EXIT_DONE
    rows = [described(id, alert) for id, alert in wanted.items()]
    text.show(*(text.table(rows) or [f"no alerts ({len(alerts)} are judged, flight phase {status['flight phase']})"]))
    return EXIT_DONE


def _ask(client: Client, words: str, done: str) -> int:
    if answer := give(client, "alerts", words, MODULE, ABSENT):
        return complain(answer)
    text.show(done)
    return EXIT_DONE


def _acknowledge(client: Client, args: argparse.Namespace) -> int:
    return _ask(client, f"ack {args.id}", f"{args.id}: acknowledged")


def _shelve(client: Client, args: argparse.Namespace) -> int:
    done = f"shelved for {text.duration(args.time)}" if args.time else "taken back"
    return _ask(client, f"shelve {args.id} {args.time:g}", f"{args.id}: {done}")


def _mute(client: Client, args: argparse.Namespace) -> int:
    return _ask(client, "mute", "no sounds for a minute")


def _log(client: Client, args: argparse.Namespace) -> int:
    status = _status(client)
    if args.json:
        entries = [entry for entry in status.get("alert log", ()) if isinstance(entry, dict)]
        print(json.dumps(entries, indent=2))
        return EXIT_DONE
    text.show(*(text.table(changes(status)) or ["nothing has happened"]))
    return EXIT_DONE


def _details(entry: Mapping[str, Any]) -> str:
    """Value, limit, duration and worst value of a change, as far as it has them."""
    names = {"value": "", "limit": "limit ", "seconds": "after ", "worst": "at worst "}
    words = [
        f"{label}{text.duration(entry[name]) if name == 'seconds' else text.short_text(entry[name])}"
        for name, label in names.items()
        if name in entry
    ]
    return ", ".join([*words, entry["phase"]])


ACTIONS: dict[str, Callable[[Client, argparse.Namespace], int]] = {
    "list": _list,
    "ack": _acknowledge,
    "shelve": _shelve,
    "mute": _mute,
    "log": _log,
}
