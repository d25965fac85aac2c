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
CROSS = runpy.run_path(str(ROOT / "systemd/debian/cross.py"))
PAGES: dict[str, str] = runpy.run_path(str(ROOT / "systemd/debian/manual.py"))["pages"]()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed here"),
]


ELF_AMD64 = b"\x7fELF\x02\x01\x01".ljust(18, b"\0") + (62).to_bytes(2, "little")


def tiny_wheel(directory: Path, **files: bytes) -> Path:
    """A wheel with the gateway's name but no requirements, so that pip downloads nothing."""
    wheel = directory / "fixgw-0.1.0-py3-none-any.whl"
    information = "fixgw-0.1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("fixgw/__init__.py", "")
        for name, data in files.items():
            archive.writestr(f"fixgw/{name}.so", data)
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


def test_what_is_compiled_for_another_architecture_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match=r"python3\.1[13]/fixgw/fast\.so is not compiled for arm64"):
        build(tmp_path, tiny_wheel(tmp_path, fast=ELF_AMD64))


def library_of(directory: Path, *names: str) -> Path:
    """A library with PyYAML and a distribution with these files, compiled for amd64."""
    for name in (*names, "yaml/_yaml.cpython-313-x86_64-linux-gnu.so"):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(ELF_AMD64)
    for release, listed in (("wrapt-1.17.3", names), ("pyyaml-6.0.4", ("yaml/_yaml.cpython-313-x86_64-linux-gnu.so",))):
        information = directory / f"{release}.dist-info"
        information.mkdir()
        (information / "WHEEL").write_text(
            "Wheel-Version: 1.0\nTag: cp313-cp313-manylinux_2_17_x86_64\nTag: cp313-cp313-manylinux2014_x86_64\n"
        )
        lines = [*listed, f"{release}.dist-info/WHEEL", f"{release}.dist-info/RECORD"]
        (information / "RECORD").write_text("".join(f"{line},,\n" for line in lines))
    return directory


def no_pip(*arguments: str) -> None:
    raise AssertionError(arguments)


def test_for_armhf_what_is_compiled_for_amd64_is_left_out_if_the_library_can_do_without(tmp_path: Path) -> None:
    library = library_of(tmp_path / "library", "wrapt/_wrappers.cpython-313-x86_64-linux-gnu.so")
    CROSS["replace_compiled"](library, "armhf", "3.13", tmp_path / "scratch", no_pip)
    left = sorted(str(path.relative_to(library)) for path in library.rglob("*") if path.is_file())
    assert left == ["wrapt-1.17.3.dist-info/RECORD", "wrapt-1.17.3.dist-info/WHEEL"]  # Debian has PyYAML
    information = library / "wrapt-1.17.3.dist-info"
    assert (information / "WHEEL").read_text() == "Wheel-Version: 1.0\nTag: cp313-cp313-linux_armv6l\n"
    listed = [line.split(",") for line in (information / "RECORD").read_text().splitlines()]
    assert [name for name, _, _ in listed] == left
    assert listed[1][2] == str((information / "WHEEL").stat().st_size)


def test_for_armhf_a_part_that_nothing_is_known_of_is_an_error(tmp_path: Path) -> None:
    library = library_of(tmp_path / "library", "new/_fast.cpython-313-x86_64-linux-gnu.so")
    with pytest.raises(LookupError, match=r"does not know how new/_fast\.cpython-313-x86_64-linux-gnu\.so is compiled"):
        CROSS["replace_compiled"](library, "armhf", "3.13", tmp_path / "scratch", no_pip)


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
