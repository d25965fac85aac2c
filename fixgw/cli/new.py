"""The command that creates a driver or plugin from a template: new."""

from __future__ import annotations

import argparse
import keyword
import re
import shlex
import sys
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import fixgw
from fixgw import extras
from fixgw.cli import EXIT_DONE, EXIT_USAGE, Subparsers, add_command, complain
from fixgw.errors import FixgwError

NAME = re.compile(r"[a-z][a-z0-9_]*")


#: The templates of each kind, with the path of the new file in your own folder and in a clone of the gateway.
KINDS: dict[str, dict[str, tuple[str, str]]] = {
    "driver": {
        "protocol.py": ("@name@/protocol.py", "drivers/@name@/protocol.py"),
        "__init__.py": ("@name@/__init__.py", "drivers/@name@/__init__.py"),
        "simulator.py": ("@name@/simulator.py", "tests/hw_sim/devices/@name@.py"),
        "test.py": ("test_@name@.py", "tests/drivers/test_@name@.py"),
        "page.md": ("@name@.md", "docs/drivers/@name@.md"),
    },
    "plugin": {
        "plugin.py": ("@name@.py", "plugins/@name@.py"),
        "test.py": ("test_@name@.py", "tests/plugins/test_@name@.py"),
        "page.md": ("@name@.md", "docs/plugins/@name@.md"),
    },
}


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    parser = add_command(
        subparsers,
        "new",
        new,
        "  driver NAME   for a device's protocol: protocol, plugin, virtual device, tests, page\n"
        "  plugin NAME   for computing, judging, storing or serving values: plugin, tests, page\n\n"
        "The new files work and pass their tests unchanged; adapt them step by step. In a clone of the gateway they\n"
        "go to the folders of existing drivers and plugins, otherwise all into one folder. Existing files are never\n"
        "overwritten.",
        "  fixgw new driver thermo\n  fixgw new plugin average --to ~/.config/fixgw",
    )
    parser.add_argument("kind", choices=list(KINDS))
    parser.add_argument("name", metavar="NAME", help="the module's name: lower-case letters, digits and _")
    parser.add_argument(
        "--to", metavar="DIR", type=Path, default=Path(), help="target folder (default: the current one)"
    )


def new(args: argparse.Namespace) -> int:
    if problem := name_problem(args.name):
        complain(f"{args.name!r} {problem}")
        return EXIT_USAGE
    directory: Path = args.to.expanduser()
    new_files = {directory / path: text for path, text in render(args.kind, args.name, is_clone(directory)).items()}
    if existing := [path for path in new_files if path.exists()]:
        raise FixgwError(f"{existing[0]} already exists; nothing was written")
    for path, text in new_files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
        print(path)
    for line in next_steps(args.kind, args.name, directory):
        print(line)
    return EXIT_DONE


def name_problem(name: str) -> str:
    """The reason that a new module cannot have this name; empty when it can."""
    if not NAME.fullmatch(name):
        return "is not a module name: use lower-case letters, digits and _, beginning with a letter"
    if keyword.iskeyword(name) or name in sys.stdlib_module_names or name in ("fixgw", "plugin", "test"):
        return "already has a meaning in Python or in the gateway; choose another name"
    return ""


def is_clone(directory: Path) -> bool:
    """Whether `directory` is the top of a clone of the gateway's repository."""
    return all((directory / part).exists() for part in ("fixgw/plugin.py", "drivers", "plugins", "tests/hw_sim"))


def render(kind: str, name: str, in_clone: bool) -> dict[str, str]:
    """The files of a new driver or plugin: path to text."""
    package = f"fixgw.{kind}s.{name}" if in_clone else name
    marks = {
        "name": name,
        "Name": "".join(word.capitalize() for word in name.split("_")),
        "package": package,
        "simulator": f"fixgw.hw_sim.devices.{name}" if in_clone else f"{name}.simulator",
        "options": f"<!-- options:{package} -->\n<!-- /options -->"
        if in_clone
        else f"`fixgw plugins {name}` prints them.",
    }

    def fill_in(text: str) -> str:
        return re.sub("@(name|Name|package|simulator|options)@", lambda match: marks[match[1]], text)

    folder = files("fixgw.cli") / "templates" / kind
    new_files = {}
    for template, places in KINDS[kind].items():
        text = fill_in((folder / f"{template}.in").read_text("utf-8"))
        if template.endswith(".py"):
            text = sort_imports(text, "fixgw" if in_clone else name)
        new_files[fill_in(places[in_clone])] = text
    return new_files


def sort_imports(text: str, own: str) -> str:
    """`text` with its imports in the usual order: standard library, third-party, then the package `own`."""
    lines = text.splitlines()
    places = [n for n, line in enumerate(lines) if line.startswith(("import ", "from "))]
    groups: list[list[str]] = [[], [], [], []]
    for n in places:
        top = lines[n].split()[1].partition(".")[0]
        groups[3 if top == own else 2 if top not in sys.stdlib_module_names else top != "__future__"].append(lines[n])
    ordered = [sorted(group, key=lambda line: (line.startswith("from "), line.split()[1])) for group in groups if group]
    lines[places[0] : places[-1] + 1] = ["\n\n".join("\n".join(group) for group in ordered)]
    return "\n".join(lines) + "\n"


def next_steps(kind: str, name: str, directory: Path) -> list[str]:
    if is_clone(directory):
        test = KINDS[kind]["test.py"][True].replace("@name@", name)
        return [
            f"1. .venv/bin/python -m pytest {test}   # passes as it is; change tests and code together",
            "2. make docs lint   # generates the table of options, checks types and style",
            "3. see CONTRIBUTING.md for the complete list of steps",
        ]
    there = f"cd {shlex.quote(str(directory))} && " if directory.resolve() != Path.cwd() else ""
    python = shlex.quote(sys.executable)
    if extras.is_debian_package():
        python = f"PYTHONPATH={Path(fixgw.__file__).parents[1]} {python}"
    first = "" if find_spec("pytest") else "fixgw install-extra testing && "
    return [
        f"1. {there}{first}{python} -m pytest test_{name}.py   # passes as it is; change tests and code together",
        f"2. copy the connection from {name}.md to a file beside it, such as my.yaml; a configuration elsewhere needs "
        f"`plugin path: {directory.resolve()}`",
        f"3. {there}fixgw check my.yaml && fixgw run --config-file my.yaml   # then fixgw status in another terminal",
    ]
