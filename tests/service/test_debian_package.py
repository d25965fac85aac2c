"""The Debian package: built from the installer's files, with libraries for several Pythons, reproducible."""

from __future__ import annotations

import gzip
import runpy
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from fixgw.cli import CLIENT, SERVER, Command, package_commands
from fixgw.install import FILES, INSTANCES, PACKAGED, UNIT, defaults

ROOT = Path(__file__).parents[2]
BUILD = runpy.run_path(str(ROOT / "systemd/debian/build.py"))
PAGES: dict[str, str] = runpy.run_path(str(ROOT / "systemd/debian/manual.py"))["pages"]()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed here"),
]


def tiny_wheel(directory: Path) -> Path:
    """A wheel with the gateway's name but no requirements, so that pip downloads nothing."""
    wheel = directory / "fixgw-0.1.0-py3-none-any.whl"
    information = "fixgw-0.1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("fixgw/__init__.py", "")
        archive.writestr(f"{information}/METADATA", "Metadata-Version: 2.1\nName: fixgw\nVersion: 0.1.0\n")
        archive.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{information}/entry_points.txt", "[console_scripts]\nfixgw = fixgw:main\n")
        archive.writestr(f"{information}/RECORD", "")
    return wheel


def build(output: Path, wheel: Path) -> Path:
    function: Any = BUILD["build"]
    package: Path = function(output, "arm64", ["3.13", "3.11"], wheel)
    return package


def field(package: Path, name: str) -> str:
    command = ["dpkg-deb", "--field", str(package), name]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_it_contains_what_the_installer_installs_and_is_reproducible(tmp_path: Path) -> None:
    wheel = tiny_wheel(tmp_path)
    package = build(tmp_path / "one", wheel)
    assert package.name == f"fixgw_{BUILD['VERSION']}_arm64.deb"
    assert field(package, "Architecture") == "arm64"
    assert "python3 (>= 3.11), python3 (<< 3.14), python3.13 | python3.11" in field(package, "Depends")

    subprocess.run(["dpkg-deb", "--raw-extract", str(package), str(tmp_path / "tree")], check=True)
    tree = tmp_path / "tree"
    for name, place in FILES.items():
        assert (tree / "usr/lib" / place).read_bytes() == (ROOT / "systemd" / name).read_bytes()
    assert (tree / "DEBIAN/conffiles").read_text().splitlines() == [f"/etc/fixgw/{name}" for name in defaults()]
    for python in ("3.11", "3.13"):
        library = tree / f"opt/fixgw/lib/python{python}"
        assert (library / "fixgw/__init__.py").exists()
        assert not (library / "bin").exists()
        assert str(tmp_path) not in (library / "fixgw-0.1.0.dist-info/RECORD").read_text()
    assert (tree / "opt/fixgw/bin/fixgw").stat().st_mode & 0o777 == 0o755

    manuals = {p.name: gzip.decompress(p.read_bytes()).decode() for p in (tree / "usr/share/man/man1").iterdir()}
    assert manuals == {f"{name}.gz": page for name, page in PAGES.items()}
    for name, (place, also) in BUILD["COMPLETIONS"].items():
        assert (tree / place.lstrip("/")).read_bytes() == (ROOT / "systemd/debian" / name).read_bytes()
        assert not also or (tree / also.lstrip("/")).readlink() == Path(place)
    subprocess.run(["sh", "-n", str(tree / "usr/share/bash-completion/completions/fixgw")], check=True)

    assert build(tmp_path / "two", wheel).read_bytes() == package.read_bytes()


def test_the_documentation_is_a_package_for_all_architectures(tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "docs").mkdir(parents=True)
    (site / "index.html").write_text("FIX Gateway")
    (site / "docs/index.html").write_text("All pages")
    package: Path = BUILD["build_documentation"](tmp_path / "one", site)
    assert package.name == f"fixgw-doc_{BUILD['VERSION']}_all.deb"
    assert field(package, "Architecture") == "all"
    subprocess.run(["dpkg-deb", "--extract", str(package), str(tmp_path / "tree")], check=True)
    assert (tmp_path / "tree/usr/share/doc/fixgw/html/docs/index.html").read_text() == "All pages"
    assert BUILD["build_documentation"](tmp_path / "two", site).read_bytes() == package.read_bytes()


@pytest.mark.parametrize(
    ("name", "commands"), [("fixgw", {**SERVER, **CLIENT, **package_commands()}), ("fixgwc", CLIENT)]
)
def test_the_manual_names_every_command(name: str, commands: dict[str, Command]) -> None:
    page = PAGES[f"{name}.1"]
    for command in commands:
        assert f"\n.B {command}\n".replace("-", "\\-") in page
        assert f"fixgw-{command}.1" in PAGES


def test_the_page_of_a_command_says_what_its_help_says() -> None:
    page = PAGES["fixgw-watch.1"]
    assert page.startswith('.TH FIXGW\\-WATCH 1 "" "fixgw ')
    assert ".SH NAME\nfixgw\\-watch \\- watch values change\n" in page
    assert "\n.B \\-\\-duration SECONDS\nstop after this time\n" in page
    assert "\n  fixgw watch IAS ALT VS HEAD\n" in page
    assert "keys on the terminal:" in page
    assert "the gateway's address (default: $FIXGW_HOST or 127.0.0.1)" in page
    assert "\n.SH MONITOR\n" in PAGES["fixgw-canfix.1"]
    assert "%(default)s" not in "".join(PAGES.values())


def test_no_text_of_a_page_is_a_request_of_roff() -> None:
    requests = {"TH", "SH", "TP", "B", "BR", "I", "PP", "nf", "fi"}
    for name, page in PAGES.items():
        lines = [line for line in page.splitlines() if line[:1] in (".", "'")]
        assert {line[1:].split()[0] for line in lines} <= requests, name


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed here")
def test_groff_has_no_complaints() -> None:
    options = ["groff", "-man", "-Tutf8", "-K", "utf-8", "-ww", "-z"]
    done = subprocess.run(options, input="".join(PAGES.values()), capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_the_package_and_the_installer_know_of_each_other() -> None:
    assert f"/usr/lib/{FILES[UNIT]}" == PACKAGED
    assert f"-e /usr/local/lib/{FILES[UNIT]} " in (ROOT / "systemd/debian/preinst").read_text()


@pytest.mark.parametrize(("script", "verb"), [("prerm", "stop"), ("postinst", "try-restart")])
def test_instances_follow_the_main_service(script: str, verb: str) -> None:
    text = (ROOT / "systemd/debian" / script).read_text()
    assert any(verb in line and f"'{INSTANCES}'" in line for line in text.splitlines())


@pytest.mark.parametrize("script", ["preinst", "postinst", "prerm", "postrm"])
def test_the_scripts_are_valid_and_need_no_running_systemd(script: str) -> None:
    path = ROOT / "systemd/debian" / script
    subprocess.run(["sh", "-n", str(path)], check=True)
    text = path.read_text()
    for line in text.splitlines():
        if "systemctl" in line or "deb-systemd-invoke" in line:
            assert "/run/systemd/system" in line or "[ -d /run/systemd/system ]" in text
            assert "|| true" in line
