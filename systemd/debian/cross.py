"""Compiled parts of libraries for an architecture that PyPI has no wheels for: that of the 32-bit Raspberry Pi OS.

The libraries come from PyPI's wheels for amd64, and their compiled parts are replaced. The compiler is zig's, which pip
installs; it knows other architectures, and which versions of the C library they have. Python's headers come from
Debian's package for that architecture: fetching it with apt does not take root, and changes nothing on this computer.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
from base64 import urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Machine(NamedTuple):
    triplet: str  #: Debian's, which is in the names of compiled parts
    compiler: tuple[str, ...]  #: options of ``zig cc``
    platform: str  #: in the tags of wheels


#: ARMv6 and the floating-point unit of the first Raspberry Pi and of the Zero, which run the 32-bit Raspberry Pi OS; it
#: calls itself armhf. Newer processors run that too.
MACHINES = {
    "armhf": Machine(
        "arm-linux-gnueabihf", ("-target", "arm-linux-gnueabihf.2.28", "-mcpu=arm1176jzf_s"), "linux_armv6l"
    ),
}
#: Debian's releases that have these versions of Python.
RELEASES = {"3.11": "bookworm", "3.13": "trixie"}
#: What each compiled part is made of: a file of its library's sdist. None: the library works without that part.
SOURCES = {"msgspec/_core": "src/msgspec/_core.c", "wrapt/_wrappers": None}
#: Libraries that Debian has in a version that will do, compiled for the architecture.
DEBIAN = {"pyyaml": "python3-yaml"}

Pip = Callable[..., None]


def replace_compiled(library: Path, architecture: str, python: str, scratch: Path, pip: Pip) -> None:
    """Replace what is compiled for amd64 in the directory `library`. `scratch` is a directory that is not there yet.

    Raises `LookupError` about a part that this does not know, and `subprocess.CalledProcessError`.
    """
    machine = MACHINES[architecture]
    scratch.mkdir()
    for name in DEBIAN:
        remove(library, next(library.glob(f"{name}-*.dist-info")))
    for part in sorted(path for path in library.rglob("*") if path.is_file() and elf_machine(path)):
        name = f"{part.parent.relative_to(library)}/{part.name.partition('.')[0]}"
        if name not in SOURCES:
            raise LookupError(f"systemd/debian/cross.py does not know how {part.relative_to(library)} is compiled")
        information = distribution(library, part)
        made = []
        if (source := SOURCES[name]) is not None:
            tag = f"cpython-{python.replace('.', '')}-{machine.triplet}"
            made.append(part.with_name(f"{part.name.partition('.')[0]}.{tag}.so"))
            unpacked = sdist(information, scratch, pip)
            compile_part(unpacked / source, made[0], machine, headers(architecture, python, scratch))
        part.unlink()
        wheel = information / "WHEEL"
        tags = re.sub(r"(?m)^(Tag: [^-\n]+-[^-\n]+)-\S+$", rf"\1-{machine.platform}", wheel.read_text())
        wheel.write_text("".join(dict.fromkeys(tags.splitlines(keepends=True))))
        enlist(library, information, gone=[part, wheel], new=[*made, wheel])


def elf_machine(path: Path) -> int:
    """The number of the machine that a compiled file is for; 0 if it is no such file."""
    with path.open("rb") as file:
        header = file.read(20)
    return int.from_bytes(header[18:20], "little") if header.startswith(b"\x7fELF") else 0


def remove(library: Path, information: Path) -> None:
    """Remove a distribution."""
    names = {line.partition("/")[0] for line in (information / "RECORD").read_text().splitlines()}
    for name in names - {".."}:
        shutil.rmtree(library / name)


def distribution(library: Path, part: Path) -> Path:
    """The directory with what is known of the distribution that `part` belongs to."""
    line = f"\n{part.relative_to(library)},"
    (record,) = (each for each in library.glob("*.dist-info/RECORD") if line in f"\n{each.read_text()}")
    return record.parent


def sdist(information: Path, scratch: Path, pip: Pip) -> Path:
    """Fetch and unpack the sdist of the same version."""
    release = information.name.removesuffix(".dist-info")
    name, version = release.split("-")
    pip("download", "--no-deps", "--no-binary", name, "--dest", str(scratch), f"{name}=={version}")
    with tarfile.open(scratch / f"{release}.tar.gz") as archive:
        archive.extractall(scratch, filter="data")
    return scratch / release


def headers(architecture: str, python: str, scratch: Path) -> Path:
    """Fetch Python's headers. Returns the directory for C to include from."""
    apt = scratch / "apt"
    for name in ("lists/partial", "cache/archives/partial"):
        (apt / name).mkdir(parents=True)
    (apt / "status").touch()
    (apt / "sources.list").write_text(f"deb {mirror()} {RELEASES[python]} main\n")
    (apt / "apt.conf").write_text(
        f"""\
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Sandbox::User "";
Acquire::Languages "none";
Dir::Cache "{apt}/cache";
Dir::Etc::SourceList "{apt}/sources.list";
Dir::Etc::SourceParts "-";
Dir::State::Lists "{apt}/lists";
Dir::State::Status "{apt}/status";
"""
    )
    environment = {**os.environ, "APT_CONFIG": str(apt / "apt.conf")}
    for command in (["apt-get", "-qq", "update"], ["apt-get", "-qq", "download", f"libpython{python}-dev"]):
        subprocess.run(command, check=True, cwd=apt, env=environment, stdout=subprocess.DEVNULL)
    (package,) = apt.glob("*.deb")
    subprocess.run(["dpkg-deb", "--extract", str(package), str(apt / "tree")], check=True)
    return apt / "tree/usr/include"


def mirror() -> str:
    """Where this computer fetches Debian's packages; Debian's own address if it runs another system."""
    command = ["apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI)", "Created-By: Packages"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    known = [line.split()[1] for line in told.splitlines() if line.startswith("Debian ")]
    return known[0] if known else "http://deb.debian.org/debian"


def compile_part(source: Path, made: Path, machine: Machine, include: Path) -> None:
    """Compile a part. The same source gives the same bytes, whatever the directories are called."""
    (python,) = include.glob("python3.*")
    cache = str(include.parent / "zig")
    options = ["-shared", "-fPIC", "-O2", "-DNDEBUG", "-s", "-w", "-Wl,--build-id=none"]
    subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "ziglang",
                "cc",
                *machine.compiler,
                *options,
                f"-ffile-prefix-map={source.parent}=.",
            ),
            *(f"-I{python}", f"-I{include}", "-o", str(made), str(source), "-lm"),
        ],
        check=True,
        env={**os.environ, "ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache},
    )


def enlist(library: Path, information: Path, gone: list[Path], new: list[Path]) -> None:
    """Change the list of a distribution's files."""
    record = information / "RECORD"
    names = {f"{path.relative_to(library)}" for path in gone}
    lines = [line for line in record.read_text().splitlines() if line.partition(",")[0] not in names]
    for path in new:
        data = path.read_bytes()
        digest = urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
        lines.append(f"{path.relative_to(library)},sha256={digest},{len(data)}")
    record.write_text("".join(f"{line}\n" for line in sorted(lines)))
