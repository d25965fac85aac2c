"""Builds the Debian package from the files that ``fixgw-install`` installs: ``make deb``.

It unpacks the wheels that the gateway needs below /opt/fixgw/lib, once for each version of Python, because msgspec,
PyYAML and wrapt are compiled for a version: Debian 12 has 3.11, Debian 13 has 3.13. pip can fetch wheels for any
architecture, so a PC can build a package for a Raspberry Pi. For its 32-bit system there are no wheels: ``cross.py``
compiles what is missing. The result is reproducible.

``--arch all`` builds fixgw-doc instead, from the site that ``make site`` has built. It is a package of its own, because
a computer in an aircraft has no use for it, and all architectures have the same.
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "systemd" / "debian"
sys.path.insert(0, str(ROOT))

from fixgw import __version__  # noqa: E402
from fixgw.install import CONFIGURATION, HOME, NOT_SOURCE, Target, defaults, install_files, unit_file  # noqa: E402
from fixgw.systemd.debian.cross import DEBIAN, elf_machine, replace_compiled  # noqa: E402
from fixgw.systemd.debian.manual import pages  # noqa: E402

#: Debian's names of architectures, and the names that wheels use for them.
PLATFORMS = {
    "amd64": ("manylinux2014_x86_64", "manylinux_2_28_x86_64"),
    "arm64": ("manylinux2014_aarch64", "manylinux_2_28_aarch64"),
}
#: The numbers of their machines in the headers of compiled files.
ELF = {"amd64": 62, "arm64": 183, "armhf": 40}


#: Where shells look for completions, and under which second name.
COMPLETIONS = {
    "completion": (
        "/usr/share/bash-completion/completions/fixgw",
        "/usr/share/bash-completion/completions/fixgwc",
    ),
    "completion.zsh": ("/usr/share/zsh/vendor-completions/_fixgw", ""),
    "completion.fish": (
        "/usr/share/fish/vendor_completions.d/fixgw.fish",
        "/usr/share/fish/vendor_completions.d/fixgwc.fish",
    ),
}
DOCUMENTS = "/usr/share/doc/fixgw"
#: Debian sorts what follows a tilde before the version itself: 0.2.0~dev0 comes before 0.2.0.
VERSION = __version__.replace(".dev", "~dev")


def pip(*arguments: str) -> None:
    """Run pip. What it warns of, such as indexes without a library, is shown only if it fails."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout, done.stderr, sep="", file=sys.stderr)
        done.check_returncode()


def build(output: Path, architecture: str, pythons: list[str], wheel: Path | None = None) -> Path:
    """Build the package in the directory `output`, from `wheel` or from the tree. Returns the package's path.

    Raises `LookupError` if a library has a compiled part that the architecture cannot have.
    """
    with tempfile.TemporaryDirectory(prefix="fixgw-deb-") as scratch:
        tree = Path(scratch, "tree")
        if wheel is None:
            source = Path(scratch, "source")
            shutil.copytree(ROOT, source, symlinks=True, ignore=shutil.ignore_patterns(*NOT_SOURCE))
            pip("wheel", "--no-deps", "--wheel-dir", scratch, str(source))
            (wheel,) = Path(scratch).glob("*.whl")
        compiled = architecture in PLATFORMS
        platforms = [f"--platform={name}" for name in PLATFORMS[architecture if compiled else "amd64"]]
        for python in pythons:
            library = tree / HOME.lstrip("/") / "lib" / f"python{python}"
            pip(
                *("install", "--target", str(library), "--no-compile", "--only-binary=:all:", *platforms),
                *("--implementation=cp", f"--python-version={python}", str(wheel)),
            )
            shutil.rmtree(library / "bin")  # the package has its own commands
            if not compiled:
                replace_compiled(library, architecture, python, Path(scratch, f"cross{python}"), pip)
            for record in library.glob("*.dist-info/RECORD"):  # these files show where it was built
                (record.parent / "direct_url.json").unlink(missing_ok=True)
                lines = record.read_text().splitlines(keepends=True)
                record.write_text("".join(sorted(n for n in lines if "bin/" not in n and "direct_url" not in n)))
        for path in tree.rglob("*"):
            if path.is_file() and elf_machine(path) not in (0, ELF[architecture]):
                raise LookupError(f"{path.relative_to(tree)} is not compiled for {architecture}")
        target = Target(tree, say=lambda _: None)
        for name in ("fixgw", "fixgwc"):
            target.write(f"{HOME}/bin/{name}", (HERE / "launcher").read_bytes(), 0o755)
            target.link(f"/usr/bin/{name}", f"{HOME}/bin/{name}")
        for name, page in pages().items():
            data = gzip.compress(page.encode(), mtime=0)  # no time: the package is reproducible
            target.write(f"/usr/share/man/man1/{name}.gz", data)
        for name, (place, also) in COMPLETIONS.items():
            target.write(place, (HERE / name).read_bytes())
            if also:
                target.link(also, place)
        for name, data in defaults().items():
            target.write(f"{CONFIGURATION}/{name}", data)
        install_files(target, "/usr/lib")
        target.write(f"{DOCUMENTS}/realtime.conf", unit_file("realtime.conf"))
        target.write(f"{DOCUMENTS}/copyright", copyright_notice())

        oldest, newest = sorted(pythons, key=version_numbers)[0], sorted(pythons, key=version_numbers)[-1]
        control = (
            (HERE / "control")
            .read_text()
            .format(
                version=VERSION,
                architecture=architecture,
                oldest=oldest,
                beyond=f"{version_numbers(newest)[0]}.{version_numbers(newest)[1] + 1}",
                either=" | ".join(f"python{python}" for python in pythons),  # but no version in between
                pythons=" and ".join(pythons),
                libraries="".join(f", {name}" for name in DEBIAN.values() if not compiled),
                size=kilobytes(tree),
            )
        )
        target.write("/DEBIAN/control", control.encode())
        target.write("/DEBIAN/conffiles", "".join(f"{CONFIGURATION}/{name}\n" for name in defaults()).encode())
        for name in ("preinst", "postinst", "prerm", "postrm"):
            target.write(f"/DEBIAN/{name}", (HERE / name).read_bytes(), 0o755)

        return pack(tree, output / f"fixgw_{VERSION}_{architecture}.deb")


def build_documentation(output: Path, site: Path) -> Path:
    """Build fixgw-doc in the directory `output`, from the documentation in `site`. Returns the package's path."""
    if not (site / "index.html").is_file():
        sys.exit(f"there is no documentation in {site}: run `make site` first")
    with tempfile.TemporaryDirectory(prefix="fixgw-deb-") as scratch:
        tree = Path(scratch, "tree")
        target = Target(tree, say=lambda _: None)
        shutil.copytree(site, tree / f"{DOCUMENTS}/html".lstrip("/"))
        target.write("/usr/share/doc/fixgw-doc/copyright", copyright_notice())
        control = (HERE / "control-doc").read_text().format(version=VERSION, size=kilobytes(tree))
        target.write("/DEBIAN/control", control.encode())
        return pack(tree, output / f"fixgw-doc_{VERSION}_all.deb")


def copyright_notice() -> bytes:
    return (ROOT / "NOTICE").read_bytes() + b"\n" + (ROOT / "LICENSE").read_bytes()


def kilobytes(tree: Path) -> int:
    return sum(p.stat().st_size for p in tree.rglob("*") if p.is_file() and not p.is_symlink()) // 1024


def pack(tree: Path, package: Path) -> Path:
    """Make the package of the files in `tree`, all of root's and with usual permissions."""
    for path in sorted(tree.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
        elif path.is_file() and not path.is_symlink():
            path.chmod(0o755 if os.access(path, os.X_OK) else 0o644)
    tree.chmod(0o755)
    package.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": os.environ.get("SOURCE_DATE_EPOCH") or commit_time()}
    command = ["dpkg-deb", "--root-owner-group", "-Zxz", "--build", str(tree), str(package)]
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return package


def version_numbers(version: str) -> tuple[int, int]:
    major, _, minor = version.partition(".")
    return int(major), int(minor)


def commit_time() -> str:
    """The time of the last commit, in seconds since 1970; a constant if this is not a git repository."""
    command = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "1000000000"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    own = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True).stdout.strip()
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="directory for the package (default: dist)")
    parser.add_argument("--arch", choices=[*ELF, "all"], default=own, help="default: %(default)s")
    parser.add_argument("--pythons", default="3.11,3.13", help="the versions of Python (default: %(default)s)")
    parser.add_argument("--wheel", type=Path, help="use this wheel instead of building one from the tree")
    args = parser.parse_args()
    try:
        if args.arch == "all":
            print(build_documentation(args.output, ROOT / "build" / "site"))
            return 0
        print(build(args.output, args.arch, args.pythons.split(","), args.wheel))
    except subprocess.CalledProcessError as error:
        print(f"this command failed, see its output above: {' '.join(map(str, error.cmd))}", file=sys.stderr)
        return 1
    except LookupError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
