"""Builds and checks everything that a release publishes, in dist/VERSION: ``make release``.

It refuses a tree with changes, and a version that CHANGELOG.md does not agree with. The commit gives every file its
time, so the same commit and the same libraries give the same bytes; the sdist, the wheel and a Debian package are built
twice and compared. docs/releasing.md has the steps around it.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ARCHITECTURES = ("amd64", "arm64", "armhf")
DEB = ROOT / "systemd" / "debian" / "build.py"
#: Duplicate files (W002) are templates and samples; the tests that the wheel has on purpose are `fixgw.hw_sim`.
IGNORED = "W002"


class Refused(Exception):
    """The release cannot be built; the message says why."""


def run(*command: object, cwd: Path = ROOT, **environment: str) -> str:
    """Run a command quietly. Raises `Refused` with what it said if it fails."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Refused(f"{' '.join(words)}\n{done.stdout}{done.stderr}")
    return done.stdout


def disagreement(version: str, changelog: str) -> str:
    """Why this version cannot be released with this change log; empty if it can.

    A release is the newest section of the log, with its date, and there is nothing unreleased. Between releases, the
    version is one to come, such as 0.2.0.dev0, and what is new stands under Unreleased.
    """
    _, _, rest = changelog.partition("\n## Unreleased\n")
    unreleased, _, released = rest.partition("\n## ")
    newest = re.match(r"(\d+\.\d+\.\d+)( - \d{4}-\d\d-\d\d)?\n", released)
    if not rest or newest is None:
        return "CHANGELOG.md needs a section Unreleased, and below it one for each version, the newest first"
    final, dev, _ = version.partition(".dev")
    if not re.fullmatch(r"\d+\.\d+\.\d+", final):
        return f"the version {version} is neither like 1.2.3 nor like 1.2.3.dev0"
    if dev:
        if numbers(final) <= numbers(newest[1]):
            return f"{version} does not come after {newest[1]}, the newest version in CHANGELOG.md"
        return "" if unreleased.strip() else f"nothing is unreleased, but {version} is under development"
    if unreleased.strip():
        return f"CHANGELOG.md has unreleased entries: move them to a section {version}"
    if newest[1] != version:
        return f"the newest section of CHANGELOG.md is {newest[1]}, but the version is {version}"
    return (
        "" if newest[2] else f"the section {version} of CHANGELOG.md has no date, such as `## {version} - 2026-01-31`"
    )


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def pack(path: Path, files: Iterable[tuple[str, Path]], time: int) -> None:
    """Write a tar.gz whose bytes depend on the names, contents and executability of `files` alone."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, file in sorted(files):
            information = tarfile.TarInfo(name)
            information.size, information.mtime = file.stat().st_size, time
            information.mode = 0o755 if os.access(file, os.X_OK) else 0o644
            with file.open("rb") as data:
                archive.addfile(information, data)
    path.write_bytes(gzip.compress(packed.getvalue(), mtime=time))


def tree(directory: Path, prefix: str) -> list[tuple[str, Path]]:
    return [(f"{prefix}/{p.relative_to(directory)}", p) for p in directory.rglob("*") if p.is_file()]


def build_python(output: Path, time: int) -> tuple[Path, Path]:
    """The sdist of the last commit, and the wheel made from it."""
    with tempfile.TemporaryDirectory(prefix="fixgw-release-") as scratch:
        clone, unpacked = Path(scratch, "clone"), Path(scratch, "unpacked")
        run("git", "clone", "--quiet", "--depth=1", ROOT.as_uri(), clone)
        run(sys.executable, "-m", "build", "--no-isolation", "--sdist", "--outdir", scratch, clone)
        (made,) = Path(scratch).glob("*.tar.gz")
        with tarfile.open(made) as archive:
            archive.extractall(unpacked, filter="data")
        output.mkdir(parents=True, exist_ok=True)
        sdist = output / made.name
        (top,) = unpacked.iterdir()
        pack(sdist, tree(top, top.name), time)  # setuptools packs the times and the user of the clone
        run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", output, top)
        (wheel,) = output.glob("*.whl")
    return sdist, wheel


def bill(output: Path, libraries: Path, version: str) -> None:
    """Write the software bill of materials of this version, with the distributions in the directory `libraries`."""
    with tempfile.TemporaryDirectory(prefix="fixgw-sbom-") as scratch:
        # The tool asks the Python of an environment for its path: this one has the libraries, and nothing else.
        python = Path(scratch, "python")
        python.write_text(f"#!/bin/sh\necho '{json.dumps([str(libraries)])}'\n")
        python.chmod(0o755)
        run(
            *(sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible", "--output-format", "JSON"),
            *("--pyproject", ROOT / "pyproject.toml", "--output-file", output, python),
        )
    text = json.loads(output.read_text())
    text["metadata"]["component"]["version"] = version  # pyproject.toml leaves it to the code
    output.write_text(json.dumps(text, indent=2) + "\n")
    described = {normalised(each["name"]) for each in text["components"]}
    there = {normalised(re.split(r"-\d", information.name)[0]) for information in libraries.glob("*.dist-info")}
    if described | {"fixgw"} != there | {"fixgw"}:
        raise Refused(f"{output.name} describes {sorted(described)}, but there are {sorted(there)}")


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def try_out(wheel: Path) -> Path:
    """Install the wheel where there is nothing else, and run it. Returns the directory of its libraries."""
    directory = Path(tempfile.mkdtemp(prefix="fixgw-release-"))
    run(sys.executable, "-m", "venv", directory)
    run(directory / "bin" / "python", "-m", "pip", "install", "--quiet", wheel)
    for words in (["--version"], ["check", "--config-file", "fixgw/config/default.yaml"], ["plugins"]):
        if words[0] == "check":
            (site,) = directory.glob("lib/python*/site-packages")
            words[-1] = str(site / words[-1])
        run(directory / "bin" / "fixgw", *words, cwd=directory, HOME=str(directory))
    next(site.glob("fixgw-*.dist-info/direct_url.json")).unlink()  # it says where the wheel was built
    run(directory / "bin" / "python", "-m", "pip", "uninstall", "--quiet", "--yes", "pip", "setuptools")
    return site


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default=",".join(ARCHITECTURES), help="architectures (default: %(default)s)")
    args = parser.parse_args()
    try:
        release(args.arch.split(","))
    except Refused as reason:
        print(f"no release: {reason}", file=sys.stderr)
        return 1
    return 0


def release(architectures: list[str]) -> None:
    sys.path.insert(0, str(ROOT))
    from fixgw import __version__ as version

    if changed := run("git", "status", "--porcelain"):
        raise Refused(f"there are changes that are not committed:\n{changed}")
    if reason := disagreement(version, (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")):
        raise Refused(reason)
    os.environ["SOURCE_DATE_EPOCH"] = run("git", "log", "-1", "--format=%ct").strip()
    time = int(os.environ["SOURCE_DATE_EPOCH"])
    output = ROOT / "dist" / version
    shutil.rmtree(output, ignore_errors=True)

    say("sdist and wheel, twice")
    sdist, wheel = build_python(output, time)
    with tempfile.TemporaryDirectory(prefix="fixgw-again-") as again:
        same(build_python(Path(again), time), (sdist, wheel))
    run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel)
    run(sys.executable, "-m", "check_wheel_contents", "--ignore", IGNORED, wheel)

    say("the wheel in an environment of its own")
    site = try_out(wheel)
    bill(output / f"{wheel.stem}.cdx.json", site, version)
    shutil.rmtree(site.parents[2])

    say("documentation site")
    run(sys.executable, ROOT / "docs" / "site.py")
    pack(output / f"fixgw-{version}-site.tar.gz", tree(ROOT / "build" / "site", f"fixgw-{version}-site"), time)

    for architecture in (*architectures, "all"):
        say(f"Debian package for {architecture}")
        package = Path(run(sys.executable, DEB, "--wheel", wheel, "--arch", architecture, "--output", output).strip())
        if architecture == "all":
            continue
        with tempfile.TemporaryDirectory(prefix="fixgw-deb-") as scratch:
            run("dpkg-deb", "--extract", package, scratch)
            for libraries in sorted(Path(scratch, "opt/fixgw/lib").iterdir()):
                bill(output / f"{package.stem}.{libraries.name}.cdx.json", libraries, version)
            if architecture == architectures[0]:
                command = [sys.executable, DEB, "--wheel", wheel, "--arch", architecture, "--output", Path(scratch)]
                same([Path(run(*command).strip())], [package])

    say("checksums")
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in sorted(output.iterdir())]
    (output / "SHA256SUMS").write_text("".join(lines))
    run("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=output)
    print(f"{output}:", *(f"  {p.stat().st_size:>10,} {p.name}" for p in sorted(output.iterdir())), sep="\n")


def same(ones: Iterable[Path], others: Iterable[Path]) -> None:
    for one, other in zip(ones, others, strict=True):
        if one.read_bytes() != other.read_bytes():
            raise Refused(f"{other.name} differs when it is built again")


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
