"""The commands that run a gateway or inspect its configuration: run, check, config, plugins."""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fixgw.cli import EXIT_DONE, EXIT_FAILED, EXIT_USAGE, Subparsers, add_command, add_run_options, complain
from fixgw.errors import Advice, ConfigurationError, FixgwError, Problem, counted, did_you_mean

if TYPE_CHECKING:
    from fixgw.configuration import Configuration
    from fixgw.loader import PluginInfo

log = logging.getLogger("fixgw")

LOCK_MEMORY = "FIXGW_LOCK_MEMORY"  # `yes` in the environment keeps the gateway's memory from being paged out


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    parser = add_command(
        subparsers,
        "run",
        run,
        "The gateway runs until Ctrl-C or SIGTERM. On SIGHUP it rereads its configuration and restarts only the\n"
        "connections whose options changed. It refuses to start when the configuration has problems.\n\n"
        "With --safe it serves NetFIX and its own status only, even if the configuration has problems.\n\n"
        "exit codes: 0 stopped as requested, 1 problems in the configuration, 2 wrong usage, 3 a plugin could not\n"
        "be stopped, 4 a connection with `on_failure: stop` failed, 5 an internal error, which is in the log",
        "  fixgw run --verbose\n  fixgw run --config-file ~/bench/default.yaml --debug",
    )
    add_run_options(parser)
    parser.add_argument("--safe", action="store_true", help="safe mode: NetFIX and status only, no devices")

    parser = add_command(
        subparsers,
        "check",
        check,
        "Prints every problem as `file:line:column: message`; the exit code is then 1. Advice explains\n"
        "what accepted settings mean here. The command does not access hardware.",
        "  fixgw check\n  fixgw check ~/bench/default.yaml",
    )
    parser.add_argument("file", metavar="FILE", nargs="?", help="the configuration; default: as for `fixgw run`")
    parser.add_argument("--config-file", metavar="FILE", help="the same as FILE")
    parser.add_argument("--json", action="store_true", help="print the problems as JSON")

    parser = add_command(
        subparsers,
        "config",
        config,
        "  init DIR   copy the packaged configuration to DIR for editing; never overwrites an edited file\n"
        "  import [DIR]  convert the incumbent's configuration in DIR into ours, and report the result\n"
        "  path       print the path of the configuration that `fixgw run` would use\n"
        "  show       print the effective configuration: connections with all their options\n"
        "  explain [NAME]  print each connection as it is understood: what was translated, and why\n"
        "  schema     print the JSON schema, for editors",
        "  fixgw config init ~/.config/fixgw\n  fixgw config init mine --example vw-single-seater\n"
        "  fixgw config import ~/makerplane/fixgw/config --to ~/.config/fixgw\n"
        "  fixgw config schema > fixgw.schema.json",
    )
    parser.add_argument("what", choices=["init", "import", "path", "show", "explain", "schema"])
    parser.add_argument(
        "directory", metavar="DIR", nargs="?", help="where `init` copies to, what `import` reads, what to `explain`"
    )
    parser.add_argument(
        "--example", metavar="NAME", help="`init`: copy this aircraft of the gallery instead; `list` names them"
    )
    parser.add_argument("--to", metavar="DIR", default="~/.config/fixgw", help="where `import` writes to")
    parser.add_argument(
        "--allow",
        metavar="NETWORKS",
        type=_networks,
        default=(),
        help="`import`: network that may connect and write if the incumbent permits everybody, such as 192.168.1.0/24",
    )
    parser.add_argument("--config-file", metavar="FILE", help="use this configuration")
    parser.add_argument("--json", action="store_true", help="`show` as JSON")

    parser = add_command(
        subparsers,
        "plugins",
        plugins,
        "To use a driver or plugin, give its module as `module:` in a connection.",
        "  fixgw plugins\n  fixgw plugins netfix\n  fixgw plugins compute --functions",
    )
    parser.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        help="describe the options of this driver, plugin or module; or a file NAME.py",
    )
    parser.add_argument("--functions", action="store_true", help="list the functions that its options may name")
    parser.add_argument("--config-file", metavar="FILE", help="look for modules where this configuration does")
    parser.add_argument("--json", action="store_true", help="print JSON, including options")


# -- run ---------------------------------------------------------------------------------------------------------------


def run(args: argparse.Namespace) -> int:
    from fixgw import configuration
    from fixgw.service import EXIT_DEFECT, leave, lock_memory, why_safe

    notice, problems = "", list[Problem]()
    if args.playback_start_time is not None:
        from fixgw.configuration.playback import playback

        def load(path: Path) -> Configuration:
            return playback(path, args.playback_start_time)

    else:
        load = configuration.load
    gc.disable()  # reading a configuration creates many objects and almost no garbage
    try:
        path = configuration.find(args.config_file)
        if args.safe:
            loaded, problems = configuration.load_safe(path)
            notice = why_safe()
        else:
            loaded = load(path)
        set_up_logging(loaded.logging, args)
    except ConfigurationError as error:
        return report(error)
    finally:
        gc.enable()
    if not loaded.auto_start and is_service(os.environ):
        log.warning("not starting as a service: %s says `auto start: no`", path)
        return EXIT_DONE
    log.info("using configuration %s", path)
    for advice in loaded.advice:
        log.warning("%s", advice)
    if notice:
        log.critical("%s", notice)
        for problem in problems:
            log.error("%s", problem)
    if os.environ.get(LOCK_MEMORY, "") not in ("", "no", "0"):
        try:
            lock_memory()
        except OSError as error:
            log.warning("cannot lock the process's memory (is LimitMEMLOCK= too low?): %s", error)

    from fixgw.gateway import Gateway

    gc.freeze()  # all these objects stay: collections, which stop every thread, can skip them

    def reload() -> Configuration:
        return configuration.load_safe(path)[0] if args.safe else load(path)

    try:
        code = Gateway(loaded, reload=reload, notice=notice, problems=map(str, problems)).run_forever()
    except Exception:  # not EXIT_FAILED, which stands for problems in the configuration: here a restart may help
        log.critical("internal error, please report it", exc_info=True)
        code = EXIT_DEFECT
    leave(code)
    raise AssertionError("leave() returned")


def _networks(text: str) -> list[str]:
    """Parse networks that are separated by commas."""
    from fixgw.net.access import network

    try:
        return [str(network(part.strip())) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def is_service(environ: Mapping[str, str]) -> bool:
    """Whether systemd started us. Its environment variables are not enough: terminals on a desktop inherit them."""
    return ("INVOCATION_ID" in environ or "NOTIFY_SOCKET" in environ) and not sys.stderr.isatty()


def report(error: ConfigurationError) -> int:
    """Print every problem and return the exit code."""
    for problem in error.problems:
        print(problem, file=sys.stderr)
    print(f"fixgw: {counted(len(error.problems), 'problem')} in the configuration; not started", file=sys.stderr)
    return EXIT_FAILED


def set_up_logging(configured: Mapping[str, Any] | None, args: argparse.Namespace) -> None:
    """Set up logging as in ``--log-config``, or as in the configuration, or else to stderr.

    Raises `ConfigurationError`.
    """
    from fixgw import journal

    where = args.log_config or "logging"
    if args.log_config:
        import yaml

        try:
            configured = yaml.safe_load(Path(args.log_config).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise _problem(where, " ".join(str(error).split())) from None
        if not isinstance(configured, Mapping):
            raise _problem(where, "not a mapping for logging.config.dictConfig")
        configured = configured.get("logging", configured)
    level = logging.DEBUG if args.debug else logging.INFO if args.verbose else None
    if configured:
        from logging.config import dictConfig

        try:
            # By default Python silences the loggers of modules that are already imported.
            dictConfig({"version": 1, "disable_existing_loggers": False, **configured})
        except (ValueError, TypeError, AttributeError, ImportError) as error:
            cause = f" ({error.__cause__})" if error.__cause__ else ""
            raise _problem(where, f"{error}{cause}") from None
    else:
        # The journal adds its own time stamps.
        stamp = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
        logging.basicConfig(format=f"{stamp}%(levelname)s %(name)s: %(message)s", level=logging.INFO)
        for handler in logging.root.handlers:  # only the memory keeps normal activity (`fixgw log`)
            handler.setLevel(logging.WARNING)
    if level is not None:
        for logger in (logging.getLogger(), log):
            logger.setLevel(level)
            for handler in logger.handlers:
                handler.setLevel(min(handler.level, level))
    journal.set_up()


def _problem(where: str, message: str) -> ConfigurationError:
    return ConfigurationError([Problem(where, 0, 0, message)])


# -- check and config --------------------------------------------------------------------------------------------------


def check(args: argparse.Namespace) -> int:
    from fixgw import configuration

    problems: list[Problem] = []
    loaded = None
    try:
        loaded = configuration.load(configuration.find(args.file or args.config_file))
        advice: Sequence[Advice] = loaded.advice
    except ConfigurationError as error:
        problems, advice = error.problems, error.advice
    if args.json:
        found = [{"kind": "problem", **problem._asdict()} for problem in problems]
        found += [{"kind": "advice", **each._asdict()} for each in advice]
        print(json.dumps(found, indent=2))
    elif loaded is not None:
        size = f"{counted(len(loaded.connections), 'connection')}, {counted(len(loaded.definitions), 'item')}"
        print(f"OK: {size} ({loaded.file})")
    for finding in () if args.json else (*problems, *advice):
        print(finding)
    return EXIT_FAILED if problems else EXIT_DONE


def config(args: argparse.Namespace) -> int:
    from fixgw import configuration

    if args.what == "init":
        return _init(args)
    if args.what == "import":
        from fixgw.configuration import importing

        report = importing.bring_over(args.directory, args.to, args.allow)
        for line in report.lines():
            print(line)
        return EXIT_FAILED if report.problems else EXIT_DONE
    if args.directory and args.what != "explain":
        complain(f"`fixgw config {args.what}` takes no directory; use --config-file to name a configuration")
        return EXIT_USAGE
    if args.what == "schema":
        from fixgw.configuration.schema import schema

        print(json.dumps(schema(), indent=2))
        return EXIT_DONE
    try:
        path = configuration.find(args.config_file)
        if args.what == "path":
            print(path)
            return EXIT_DONE
        if args.what == "explain":
            return _explain(path, args.directory)
        loaded = configuration.load(path)
    except ConfigurationError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return EXIT_FAILED
    facts = loaded.effective()
    if args.json:
        print(json.dumps(facts, indent=2, default=str))
    else:
        import yaml

        print(yaml.safe_dump(json.loads(json.dumps(facts, default=str)), sort_keys=False, allow_unicode=True), end="")
    return EXIT_DONE


def _init(args: argparse.Namespace) -> int:
    from fixgw.configuration.tree import aircraft, copy_tree, write_schema

    source = None
    if args.example:
        gallery = aircraft()
        if args.example == "list":
            print("\n".join(gallery))
            return EXIT_DONE
        if args.example not in gallery:
            return complain(f"no aircraft {args.example!r}{did_you_mean(args.example, gallery)}: {', '.join(gallery)}")
        source = gallery[args.example]
    if not args.directory:
        complain("`fixgw config init` needs the directory to copy the configuration to: `fixgw config init DIR`")
        return EXIT_USAGE
    for path, action in (*copy_tree(args.directory, source), write_schema(args.directory)):
        print(f"{path}: {action}")
    return EXIT_DONE


def _explain(path: Path, only: str | None) -> int:
    """Print the connections, or the one called `only`, as we understand them, even if there are problems."""
    from fixgw import configuration

    loaded, problems = configuration.load_in_part(path)
    names = [*(c.name for c in loaded.connections), *loaded.unloaded, *loaded.refused]
    if only and only not in names:
        return complain(f"there is no connection {only!r}{did_you_mean(only, names)}")
    for line in understood(loaded, only):
        print(line)
    found = problems if only is None else loaded.refused.get(only, ())
    for problem in found:
        print(problem, file=sys.stderr)
    return EXIT_FAILED if found else EXIT_DONE


def understood(loaded: Configuration, only: str | None = None) -> Iterator[str]:
    """Each connection, or just the one called `only`, as it is understood: what was translated, and why."""
    from fixgw.configuration.incumbent import written

    for connection in loaded.connections:
        if only in (None, connection.name):
            yield f"{connection.name}: {connection.module}"
            if connection.written:
                yield f"  written as module {connection.written}"
            for option, value in connection.options.items():
                if option != "CONFIGPATH":
                    yield f"  {option}: {written(value)}"
            for advice in connection.translated:
                yield f"  line {advice.line}: {advice.message}"
    for name, why in loaded.unloaded.items():
        if only in (None, name):
            yield f"{name}: not loaded, {why}"
    for name, problems in loaded.refused.items():
        if only in (None, name):
            yield f"{name}: {counted(len(problems), 'problem')}"
            yield from (f"  line {problem.line}: {problem.message}" for problem in problems)


# -- plugins -----------------------------------------------------------------------------------------------------------


def plugins(args: argparse.Namespace) -> int:
    from fixgw import loader

    if args.name is None:
        found = loader.available()
    else:
        try:
            found = [_plugin(args.name, loader.available(), args.config_file)]
        except FixgwError as error:
            return complain(str(error))
    if args.functions:
        return _functions(found[0], args.json) if args.name else complain("name the plugin whose functions to list")
    if args.json:
        print(json.dumps([_described(info) for info in found], indent=2))
    elif args.name is None:
        for line in _overview(found):
            print(line)
    else:
        for line in _detail(found[0]):
            print(line)
    return EXIT_DONE


def _plugin(name: str, found: list[PluginInfo], config_file: str | None) -> PluginInfo:
    """The packaged plugin or driver `name`, or a module that `fixgw run` would find, or one in the current directory.

    Raises `FixgwError`.
    """
    from fixgw import configuration, loader
    from fixgw.configuration import incumbent
    from fixgw.errors import BadModule

    for info in found:
        if name in (info.name, info.module):
            return info
    directories = [*configuration.module_directories(configuration.find(config_file)), Path()]
    if name.endswith(".py"):
        directories.insert(0, Path(name).parent)
        name = Path(name).stem
    loader.add_to_path(directories)
    try:
        cls = loader.load_plugin(name)
    except BadModule as error:
        theirs = name if "." in name else incumbent.PREFIX + name
        if error.absent and (reason := incumbent.absent(theirs)):
            raise FixgwError(f"{theirs}: {reason}") from None
        if error.absent and (known := incumbent.known(theirs)):
            raise FixgwError(f"{known.ours} replaces {theirs}") from None
        nearest = did_you_mean(name, [info.name for info in found])
        raise FixgwError(f"no plugin {name!r}{nearest}" if nearest and "." not in name else str(error)) from None
    words = (sys.modules[cls.__module__].__doc__ or cls.__doc__ or "").strip()
    return loader.PluginInfo(name.rpartition(".")[2], name, words.partition("\n")[0], cls.Options, None)


def _described(info: PluginInfo) -> dict[str, Any]:
    from fixgw.configuration import options

    table = None if info.options is None else [row._asdict() for row in options.rows(info.options)]
    return {
        "name": info.name,
        "module": info.module,
        "distribution": info.distribution or None,
        "summary": info.summary,
        "options": table,
        "error": info.error,
    }


def _functions(info: PluginInfo, as_json: bool) -> int:
    """List the functions of a plugin."""
    from fixgw import loader
    from fixgw.cli import text

    functions = list(loader.load_plugin(info.module).functions())
    if not functions:
        return complain(f"the options of {info.name} name no functions")
    if as_json:
        print(json.dumps([function._asdict() for function in functions], indent=2, ensure_ascii=False))
        return EXIT_DONE
    for function in functions:
        print(f"{function.name}: {function.inputs} -> {function.outputs}")
        for line in (function.formula, function.options and f"options: {function.options}", function.origin):
            for wrapped in text.wrapped(line, "    ") if line else ():
                print(wrapped)
    return EXIT_DONE


def _overview(found: list[PluginInfo]) -> list[str]:
    from fixgw.cli import text
    from fixgw.configuration import options

    lines = []
    for info in found:
        by = f" ({info.distribution})" if info.distribution else ""
        lines.append(f"{info.name:<14} {info.error or info.summary}{by}")
        names = [] if info.options is None else [row.name for row in options.rows(info.options) if "." not in row.name]
        if names:
            lines += text.wrapped(f"options: {', '.join(names)}", " " * 15)
    return [*lines, "", "`fixgw plugins NAME` describes the options of one of them."]


def _detail(info: PluginInfo) -> list[str]:
    from fixgw.cli import text
    from fixgw.configuration import options

    by = f", from {info.distribution}" if info.distribution else ""
    lines = [f"{info.name}: {info.error or info.summary}", f"module: {info.module}{by}", ""]
    rows = [] if info.options is None else options.rows(info.options)
    if info.options is None and info.error is None:
        lines.append("It does not declare its options: they are passed on unchecked.")
    elif not rows and info.error is None:
        lines.append("It takes no options.")
    for row in rows:
        default = "required" if row.default == "required" else f"default {row.default}"
        lines.append(f"  {row.name}: {row.type}; {default}")
        lines += text.wrapped(row.description, "      ")
    return lines
