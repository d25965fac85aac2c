"""Runs the gateway in a virtual machine: `tests/vm/run [OPTIONS]`; see docs/virtual-machine.md."""

from __future__ import annotations

import argparse
import hashlib
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path

from . import checks as checks  # fills CHECKS
from . import image
from .bench import CHECKS, Bench, Check, Skip
from .image import Unavailable
from .machine import Dead, Machine

ROOT = Path(__file__).parents[2]
PLATFORMS = ("linux_x86_64", "manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64")
UNAVAILABLE = 77  # exit code for skipped, as used by other test programs
NOT_COPIED = (".*", "build", "dist", "*.egg-info", "__pycache__")


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0 if every check passes, 1 if one fails, 77 if no machine is available."""
    args = parser().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # no machine is left behind
    began = time.monotonic()
    try:
        built = image.build()
        if args.build:
            print(f"image: {built.folder}")
            return 0
        folder = Path(tempfile.mkdtemp(prefix="run-", dir=image.cache()))
    except Unavailable as error:
        print(f"no virtual machine: {error}", file=sys.stderr)
        return UNAVAILABLE
    machine = None
    try:
        wheels = gather(built, folder)
        payload = pack(wheels, folder)
        machine = Machine(built, folder, payload, args.accel)
        bench = Bench(machine, next(w.name for w in wheels if w.name.startswith("fixgw-")))
        seconds = machine.boot()
        print(f"booted in {seconds:.0f} s ({machine.accelerator}); Linux {machine.run('uname -r')}", flush=True)
        machine.run("mkdir -p /root/wheels && tar -x -C /root/wheels -f /dev/vdb")
        rows = run(bench, [c for c in CHECKS if c.always or args.only in c.title])
    except Unavailable as error:
        print(f"no virtual machine: {error}", file=sys.stderr)
        return UNAVAILABLE
    except KeyboardInterrupt:
        return 130
    finally:
        if machine is not None:
            machine.power_off()
        if args.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder)
    failed = [title for verdict, title, _, _ in rows if verdict == "FAIL"]
    print(summary(rows, bench))
    print(f"{len(rows)} checks, {len(failed)} failed, {time.monotonic() - began:.0f} s with {machine.accelerator}")
    return 1 if failed else 0


Row = tuple[str, str, float, str]  # verdict, title, seconds, measurement or error


def run(bench: Bench, wanted: list[Check]) -> list[Row]:
    rows: list[Row] = []
    for check in wanted:
        began = time.monotonic()
        try:
            if check.needs_gateway and not bench.ready:
                raise Skip("no gateway is installed")
            verdict, text = "PASS", check.function(bench) or ""
        except Skip as reason:
            verdict, text = "SKIP", str(reason)
        except AssertionError as error:
            verdict, text = "FAIL", str(error) or repr(error)
            text += aftermath(bench)
        except Dead as error:
            verdict, text = "FAIL", f"the machine is gone: {error}"
        seconds = time.monotonic() - began
        rows.append((verdict, check.title, seconds, text))
        print(f"{verdict}  {seconds:5.1f} s  {check.title}{': ' if text else ''}{text}", flush=True)
        if verdict == "FAIL" and text.startswith("the machine is gone"):
            break
    return rows


def aftermath(bench: Bench) -> str:
    """The gateway's status and log, to investigate a failure."""
    try:
        return "\n" + bench.machine.run("systemctl --no-pager --lines=25 status fixgw.service", check=False)
    except Dead as error:
        return f"\n{error}"


def summary(rows: list[Row], bench: Bench) -> str:
    width = max((len(title) for _, title, _, _ in rows), default=0)
    lines = ["", *(f"{v}  {t:{width}}  {s:5.1f} s  {text.partition(chr(10))[0]}" for v, t, s, text in rows), ""]
    lines += [f"{name}: {value}" for name, value in bench.measured.items()]
    return "\n".join(lines)


# -- the wheels to install ---------------------------------------------------------------------------------------------


def gather(built: image.Image, folder: Path) -> list[Path]:
    """The wheels of the tree and of everything that it depends on."""
    print("building the wheel ...", flush=True)
    tree, out = folder / "tree", folder / "wheels"
    shutil.copytree(ROOT, tree, symlinks=True, ignore=shutil.ignore_patterns(*NOT_COPIED))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run([*command, "--wheel-dir", out, tree], capture_output=True, text=True)
    shutil.rmtree(tree)
    if done.returncode:
        raise Unavailable(f"the wheel could not be built:\n{done.stderr[-3000:]}")
    return [*out.iterdir(), *dependencies(built).iterdir()]


def dependencies(built: image.Image) -> Path:
    """A folder with wheels for the machine's Python, downloaded again when pyproject.toml requires others."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["rpi"]]
    folder = built.folder / f"wheels-{hashlib.sha256(repr(wanted).encode()).hexdigest()[:12]}"
    if not folder.exists():
        print("downloading what it depends on ...", flush=True)
        new = built.folder / "downloading"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
        options = ["--only-binary=:all:", "--python-version", image.PYTHON, *platforms, "--find-links"]
        image.pip_download(*options, str(built.folder), *wanted, to=new)
        new.rename(folder)
    return folder


def pack(wheels: list[Path], folder: Path) -> Path:
    """A tar archive of them, which QEMU presents as a disk."""
    path = folder / "payload"
    with tarfile.open(path, "w") as archive:
        for wheel in wheels:
            archive.add(wheel, wheel.name)
    return path


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tests/vm/run", description="Install and run the gateway in a virtual machine, and check it there."
    )
    parser.add_argument("--build", action="store_true", help="only build the image, if there is none")
    parser.add_argument("--only", metavar="TEXT", default="", help="checks with this in their title")
    parser.add_argument("--accel", choices=["auto", "kvm", "tcg"], default="auto", help="KVM, or QEMU's own emulation")
    parser.add_argument("--keep", action="store_true", help="keep the disk and the logs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
