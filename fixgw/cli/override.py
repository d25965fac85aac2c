"""The command that overrides values for a try-out: override."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING

from fixgw.cli import EXIT_DONE, EXIT_FAILED, Subparsers, add_client_options, add_command, complain, span, text
from fixgw.cli.client import administer, ask_about, expand, flags_of, talk, trial_item
from fixgw.errors import FixgwError

if TYPE_CHECKING:
    from fixgw.netfix import Client


def add_parser(subparsers: Subparsers[argparse.ArgumentParser], connection: bool = True) -> None:
    parser = add_command(
        subparsers,
        "override",
        talk,
        "Everybody sees VALUE, with FLAGS (any of the letters aobfs) set, whatever the sources of KEY say. It ends\n"
        "by itself after TIME (60, 60s, 10m; at most 1h), with `release`, and when the gateway restarts. The value\n"
        "counts as not real: it never leaves the gateway for a bus or an instrument, and the status counts it.\n"
        "Without KEY, or with `list`, it shows what is overridden. It needs the permission to administer the gateway.",
        "  fixgw override OILP1 12 --for 30s\n  fixgw override IAS 0 f\n  fixgw override list\n"
        "  fixgw override release OILP1\n  fixgw override release all",
    )
    parser.add_argument("words", metavar="KEY VALUE [FLAGS] | release KEY... | list", nargs="*")
    parser.add_argument("--for", dest="seconds", metavar="TIME", type=span, default=300.0, help="default: 5m")
    parser.set_defaults(action=run, usage_error=parser.error)
    if connection:
        add_client_options(parser)


def run(client: Client, args: argparse.Namespace) -> int:
    match args.words:
        case [] | ["list"]:
            return _list(client)
        case ["release", *keys] if keys:
            return _release(client, keys)
        case [key, value]:
            return _override(client, key, value, 0, args.seconds)
        case [key, value, flags]:
            try:
                bits = flags_of(flags)
            except argparse.ArgumentTypeError as error:
                args.usage_error(str(error))
            return _override(client, key, value, bits, args.seconds)
        case _:
            args.usage_error("give a KEY and a VALUE, or `list`, or `release` with keys or `all`")
            return EXIT_FAILED


def _override(client: Client, key: str, value: str, flags: int, seconds: float) -> int:
    if "." in key:
        raise FixgwError(f"{key} is an aux value: `fixgw write` sets it")
    trial_item(ask_about(client, key, client.report)).convert(value)  # it says why not
    whole = max(1, round(seconds))
    if refused := administer(client, lambda: client.override(key, value, flags, whole)):
        return complain(f"{key}: {refused}")
    sample = client.read(key)
    shown = f"{key}  {text.value_text(sample.value)}  {text.flag_words(sample.flags)}"
    text.show(f"{shown}, for {text.duration(whole)}; `fixgw override release {key}` ends it")
    return EXIT_DONE


def _release(client: Client, keys: list[str]) -> int:
    overridden = client.status().get("overrides") or {}
    code = EXIT_DONE
    for key in overridden if keys == ["all"] else expand(client, keys):
        if key not in overridden:
            ask_about(client, key, client.report)
            code = complain(f"{key} is not overridden")
        elif refused := administer(client, partial(client.release, key)):
            code = complain(f"{key}: {refused}")
    return code


def _list(client: Client) -> int:
    overridden = client.status().get("overrides") or {}
    if not overridden:
        text.show("nothing is overridden")
    text.show(
        *text.table(
            (
                key,
                text.value_text(facts["value"]),
                ", ".join(facts["flags"]) or "good",
                f"by {facts['by']}, for {text.duration(facts['seconds left'])} more",
            )
            for key, facts in overridden.items()
        )
    )
    return EXIT_DONE
