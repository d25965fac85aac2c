"""The installer, run by its own command in directories that represent a system."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

import fixgw
from fixgw import install
from fixgw.install import FILES, fingerprint, main

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def snapshot(root: Path) -> dict[str, bytes]:
    """Every file and link below `root`."""
    return {
        str(p.relative_to(root)): os.readlink(p).encode() if p.is_symlink() else p.read_bytes()
        for p in sorted(root.rglob("*"))
        if p.is_symlink() or p.is_file()
    }


def run(root: Path, *arguments: str) -> int:
    return main([*arguments, "--root", str(root)])


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a whole clone, and waiting for the disk, take most of the time."""
    monkeypatch.setattr(install, "fingerprint", lambda source, extras: f"version 1 {extras}")
    for slow in ("sync", "fsync"):
        monkeypatch.setattr(os, slow, lambda *_: None)


@pytest.fixture
def system(tmp_path: Path) -> Path:
    root = tmp_path / "system"
    assert run(root) == 0
    return root


def test_everything_is_installed_in_its_place(system: Path) -> None:
    for name, place in FILES.items():
        assert (system / "usr/local/lib" / place).read_bytes() == (ROOT / "systemd" / name).read_bytes()
    for path in (ROOT / "config").rglob("*.yaml"):
        assert (system / "etc/fixgw" / path.relative_to(ROOT / "config")).read_bytes() == path.read_bytes()
    assert os.readlink(system / "usr/local/bin/fixgw") == "/opt/fixgw/bin/fixgw"


def test_every_file_for_the_system_has_a_place() -> None:
    """Every file in systemd/ is installed, or known not to need it."""
    others = {"__init__.py", "install", "realtime.conf"}
    assert {p.name for p in (ROOT / "systemd").iterdir() if p.is_file()} == set(FILES) | others


def test_commands_for_the_system_are_named_and_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path) == 0
    said = capsys.readouterr().out
    for command in ("-I -m venv --clear /opt/fixgw", "systemd-sysusers", "systemctl enable fixgw.service"):
        assert any("would run: " in line and command in line for line in said.splitlines()), said
    assert not (tmp_path / "opt/fixgw").exists()


def test_a_command_runs_without_the_path_to_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/tmp/fixgw.whl")
    monkeypatch.setenv("ANOTHER", "yes")
    said: list[str] = []
    target = install.Target(Path("/"), say=said.append)
    code = "import os, sys; sys.exit('PYTHONPATH' in os.environ or os.environ['ANOTHER'] != 'yes')"
    assert target.run(sys.executable, "-c", code) is True
    assert said == [f"  $ {shlex.join([sys.executable, '-c', code])}"]


def test_the_service_is_set_up_in_this_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def ran(*arguments: str) -> list[str]:
        assert run(tmp_path, *arguments) == 0
        said = capsys.readouterr().out.splitlines()
        return [line.removeprefix("  would run: ") for line in said if "would run: " in line and "/opt" not in line]

    registered = [
        "systemd-sysusers /usr/local/lib/sysusers.d/fixgw.conf",
        "systemd-tmpfiles --create /usr/local/lib/tmpfiles.d/fixgw.conf",
        "systemctl unmask fixgw.service",
        "systemctl enable fixgw.service",
        "systemctl daemon-reload",
        "/usr/lib/systemd/systemd-sysctl /usr/local/lib/sysctl.d/90-fixgw.conf",
        "modprobe --quiet i2c-dev",
        "udevadm control --reload",
        *(f"udevadm trigger --subsystem-match={it}" for it in ("gpio", "i2c-dev", "spidev", "tty", "usb-serial")),
    ]
    assert ran("--can", "500000", "--no-start") == [
        *registered,
        "systemctl enable --now systemd-networkd.service",
        "systemctl disable systemd-networkd-wait-online.service",
    ]
    assert ran() == [
        *registered,
        "systemctl reset-failed fixgw.service",
        "systemctl restart fixgw.service",
        "systemctl try-restart 'fixgw@*.service'",
        "systemctl --no-pager --lines=0 status fixgw.service",
    ]
    assert ran("remove", "--purge") == [
        "systemctl disable --now fixgw.service fixgw@.service",
        "systemctl stop fixgw-safe.service 'fixgw@*.service' 'fixgw-safe@*.service'",
        "systemctl daemon-reload",
        "udevadm control --reload",
        "userdel fixgw",
    ]


def test_each_part_is_announced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*arguments: str) -> list[str]:
        assert run(tmp_path / "system", *arguments) == 0
        return capsys.readouterr().out.splitlines()

    first = said("--system-site-packages")
    assert [line for line in first if line[0] != " "] == [
        f"FIX Gateway {fixgw.__version__}",
        f"The program, in /opt/fixgw, from {ROOT}",
        "The configuration, in /etc/fixgw",
        "Units, users and device rules, in /usr/local/lib",
        "The service",
    ]
    assert "  with access to the system's Python packages, because lgpio and others have no wheels" in first
    files = {f"{install.LIBRARY}/{place}" for place in FILES.values()}
    commands = {f"/usr/local/bin/{name}" for name in install.COMMANDS}
    assert {f"  written: {file}" for file in files} < {*first}
    assert {f"  linked: {command} -> /opt/fixgw/bin/{Path(command).name}" for command in commands} < {*first}
    again = said("--system-site-packages")
    assert {f"  unchanged: {file}" for file in files} < {*again}
    assert not any("linked: " in line for line in again)
    second = said("remove")
    assert [line for line in second if line[0] != " "] == [
        "The service",
        "Its files",
        "Kept: /etc/fixgw; /usr/local/share/fixgw, to compare it with later defaults;",
        "state and logs in /var/lib/fixgw and /var/log/fixgw; and the user. --purge removes them too",
    ]
    assert {line for line in second if "removed: " in line} == {f"  removed: {name}" for name in files | commands}


def test_a_file_is_for_all_to_read_and_its_change_asks_for_a_restart(tmp_path: Path) -> None:
    target = install.Target(tmp_path, say=lambda _: None)
    target.write("/etc/new", b"1")
    assert (target.path("/etc/new").stat().st_mode & 0o777, target.changed) == (0o644, True)
    again = install.Target(tmp_path, say=lambda _: None)
    again.write("/etc/new", b"1")
    assert not again.changed


def test_a_link_to_elsewhere_is_ours_to_change(tmp_path: Path) -> None:
    target = install.Target(tmp_path, say=lambda _: None)
    for to in ("/opt/old", "/opt/fixgw", "/opt/fixgw"):
        target.link("/usr/bin/fixgw", to)
        assert os.readlink(target.path("/usr/bin/fixgw")) == to


@pytest.mark.parametrize(
    ("was", "now"), [("version = 3", "version = 2"), ("packages = false", "packages = true"), ("", "")]
)
def test_an_environment_of_another_kind_is_made_anew(
    tmp_path: Path, played: argparse.Namespace, monkeypatch: pytest.MonkeyPatch, was: str, now: str
) -> None:
    assert install.install(Computer(tmp_path), played) == 0
    facts = tmp_path / "opt/fixgw/pyvenv.cfg"
    facts.write_text(facts.read_text().replace(was, now))
    monkeypatch.setattr(install, "fingerprint", lambda *_: "version 2")
    upgrade = Noted(tmp_path)
    assert install.install(upgrade, played) == 0
    assert any("venv" in command for command in upgrade.commands) is (was != now)


def test_what_is_in_the_place_of_a_link_is_kept(tmp_path: Path) -> None:
    said: list[str] = []
    target = install.Target(tmp_path, say=said.append)
    target.path("/usr").mkdir()
    target.path("/usr/fixgw").write_text("theirs")
    target.link("/usr/fixgw", "/opt/fixgw")
    assert said == ["  kept, because it is not ours: /usr/fixgw"]
    assert target.path("/usr/fixgw").read_text() == "theirs"


def test_without_a_network_it_says_how_to_do_without(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Offline(Computer):
        def run(self, *command: str, optional: bool = False) -> bool:
            if "pip" in command:
                raise install.Refused("this command failed")
            return True

    arguments = install.parser().parse_args(["--wheel", "x.whl"])
    with pytest.raises(
        install.Refused, match="this command failed\nWithout a network, use --offline with --find-links"
    ):
        install.pip_install(Offline(tmp_path), "x.whl", arguments, again=False)


def test_wheels_are_taken_from_where_one_says(tmp_path: Path) -> None:
    arguments = install.parser().parse_args(
        ["--offline", "--find-links", str(tmp_path), "--find-links", "here", "--extras", "rpi,can"]
    )
    target = Noted(tmp_path)
    target.home.mkdir(parents=True)
    install.pip_install(target, "x.whl", arguments, again=True)
    pip = "/opt/fixgw/bin/python -I -m pip --disable-pip-version-check --no-input --quiet install"
    where = f"--no-index --find-links {tmp_path} --find-links {os.path.abspath('here')}"
    wheel = os.path.abspath("x.whl")
    assert target.commands == [
        f"{pip} {where} {wheel}[rpi,can]",
        f"{pip} --force-reinstall --no-deps {where} {wheel}",
    ]


@pytest.mark.parametrize("base", ["", "/usr/bin/python3"])
def test_the_environment_is_made_with_the_python_behind_this_one(monkeypatch: pytest.MonkeyPatch, base: str) -> None:
    asked: list[str] = []

    def probe(command: list[str], **more: object) -> subprocess.CompletedProcess[str]:
        asked.append(command[0])
        return subprocess.CompletedProcess(command, 0, "3.12\n\nyes\n")

    monkeypatch.setattr(subprocess, "run", probe)
    monkeypatch.setattr(sys, "_base_executable", base)
    monkeypatch.setattr(sys, "executable", "/opt/venv/bin/python")
    assert install.base_python(None) == (base or "/opt/venv/bin/python", "3.12", True)
    assert install.base_python("/usr/local/bin/python4")[0] == "/usr/local/bin/python4"
    monkeypatch.setattr(sys, "_base_executable", "/home/pilot/python")
    assert install.base_python(None)[0] == "/usr/bin/python3", "the service cannot see into a home"
    for python in ("/home/pilot/python", "/root/python"):
        with pytest.raises(install.Refused, match=f"cannot see {python}, which is in a home directory"):
            install.base_python(python)


def test_an_error_of_the_system_has_its_file_if_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    errors = [OSError(28, "No space left on device", "/etc/fixgw"), OSError("the disk is gone")]

    def fail(*_: object) -> int:
        raise errors.pop(0)

    monkeypatch.setattr(install, "install", fail)
    for words in ("fixgw-install: /etc/fixgw: No space left on device", "fixgw-install: the disk is gone"):
        assert run(tmp_path) == 1
        assert capsys.readouterr().err.strip() == words


@pytest.mark.parametrize("rate", ["10000", "1000000"])
def test_the_bit_rate_of_a_can_bus_has_limits(rate: str) -> None:
    assert install.parser().parse_args(["--can", rate]).can == int(rate)


def test_installing_again_changes_nothing(system: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(system)
    capsys.readouterr()
    assert run(system) == 0
    said = capsys.readouterr().out
    assert snapshot(system) == before
    assert "written" not in said
    assert "kept" not in said
    files = len(install.defaults())
    assert f"same as the default: {files} of {files} files" in said
    assert "The defaults have not changed since the last installation." in said


def test_a_dry_run_writes_nothing_and_reports_the_actions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "system", "--dry-run") == 0
    said = capsys.readouterr().out
    assert not (tmp_path / "system").exists()
    assert "would be written: /usr/local/lib/systemd/system/fixgw.service" in said
    assert "would be written: /etc/fixgw/default.yaml" in said


class NewVersion:
    """Other packaged defaults than those of the tree."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **changes: bytes | None) -> None:
        files: dict[str, bytes | None] = {**install.defaults(), **{k.replace("_", "."): v for k, v in changes.items()}}
        present = {name: data for name, data in files.items() if data is not None}
        monkeypatch.setattr(install, "defaults", lambda: present)


def test_an_upgrade_keeps_the_configuration_and_shows_what_changed(
    system: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = b"connections: {}  # mine\n"
    (system / "etc/fixgw/default.yaml").write_bytes(mine)
    (system / "etc/fixgw/demo.yaml").unlink()
    initial = (system / "etc/fixgw/initial.ini").read_bytes()
    default = (ROOT / "config/default.yaml").read_bytes()
    NewVersion(
        monkeypatch,
        default_yaml=default + b"# a new section\n",
        initial_ini=initial + b"BARO = 29.92\n",
        demo_yaml=b"# new\n",
        new_yaml=b"# brand-new\n",
    )
    capsys.readouterr()
    assert run(system) == 0
    said = capsys.readouterr().out
    assert (system / "etc/fixgw/default.yaml").read_bytes() == mine
    assert (system / "etc/fixgw/initial.ini").read_bytes() == initial
    assert not (system / "etc/fixgw/demo.yaml").exists()
    assert (system / "etc/fixgw/new.yaml").read_bytes() == b"# brand-new\n"
    assert "kept, because you edited it; the default has changed: /etc/fixgw/default.yaml" in said
    assert "--take-defaults" in said
    assert "not restored, because you removed it: /etc/fixgw/demo.yaml" in said
    assert "  Changes in the defaults since the last installation:" in said
    assert "+# a new section" in said
    assert "+BARO = 29.92" in said
    assert "+# a new section" in (system / "usr/local/share/fixgw/changes.diff").read_text()
    capsys.readouterr()
    assert run(system) == 0
    again = capsys.readouterr().out
    assert "The defaults have not changed" in again
    assert "kept, because you edited it: /etc/fixgw/default.yaml" in again


def test_the_defaults_are_all_files_that_are_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.yaml", "a/c.ini", ".hidden", ".git/x", "a/__pycache__/x", "__init__.py", "a/d.pyc"):
        (tmp_path / "config" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "config" / name).write_text(name)
    monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path)
    assert list(install.defaults().items()) == [("a/c.ini", b"a/c.ini"), ("b.yaml", b"b.yaml")]


def test_a_configuration_that_was_deleted_is_written_afresh(system: Path) -> None:
    before = snapshot(system)
    shutil.rmtree(system / "etc/fixgw")
    (system / "etc/fixgw/bench").mkdir(parents=True)  # perhaps of a second gateway
    assert run(system) == 0
    assert snapshot(system) == before


def test_unedited_files_follow_the_defaults_on_request(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (system / "etc/fixgw/default.yaml").write_bytes(b"connections: {}\n")
    NewVersion(monkeypatch, default_yaml=b"# new\n", initial_ini=b"# new\n")
    assert run(system, "--take-defaults") == 0
    assert (system / "etc/fixgw/default.yaml").read_bytes() == b"connections: {}\n"
    assert (system / "etc/fixgw/initial.ini").read_bytes() == b"# new\n"
    NewVersion(monkeypatch, initial_ini=b"# newer\n")
    assert run(system, "--take-defaults") == 0
    assert (system / "etc/fixgw/initial.ini").read_bytes() == b"# newer\n", "it is still not edited"


def test_a_new_default_can_be_adopted_later(
    system: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first upgrade has offered it."""
    NewVersion(monkeypatch, initial_ini=b"# new\n")
    assert run(system) == 0
    assert "you have not edited it): /etc/fixgw/initial.ini" in capsys.readouterr().out
    assert run(system, "status") == 0
    assert "unedited: /etc/fixgw/initial.ini" in capsys.readouterr().out
    assert run(system, "--take-defaults") == 0
    assert (system / "etc/fixgw/initial.ini").read_bytes() == b"# new\n"


def test_a_file_that_is_no_longer_a_default_is_kept(
    system: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    NewVersion(monkeypatch, demo_yaml=None)
    assert run(system) == 0
    assert "kept, but no longer among the defaults: /etc/fixgw/demo.yaml" in capsys.readouterr().out
    assert (system / "etc/fixgw/demo.yaml").exists()
    assert run(system) == 0
    assert "no longer among" not in capsys.readouterr().out, "it is said once"


def test_a_wrong_command_line_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["--dry"], "unrecognized arguments: --dry"),
        (["--can", "fast"], "argument --can: 'fast' is not a bit rate from 10000 to 1000000"),
        (["--can", "9999"], "argument --can: '9999' is not a bit rate from 10000 to 1000000"),
        (["--can", "1000001"], "argument --can: '1000001' is not a bit rate from 10000 to 1000000"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        assert capsys.readouterr().err == f"fixgw-install: {words}; see fixgw-install --help\n"


def test_removing_keeps_the_configuration_and_purging_deletes_it(system: Path) -> None:
    configuration = {n for n in snapshot(system) if n.startswith(("etc/fixgw", "usr/local/share/fixgw"))}
    (system / "opt/fixgw/bin").mkdir(parents=True)
    (system / "opt/fixgw/bin/python").touch()
    assert run(system, "remove") == 0
    assert set(snapshot(system)) == configuration
    assert (system / "usr/local/lib").is_dir(), "it is not ours"
    assert not (system / "usr/local/lib/systemd").exists()
    assert run(system, "--realtime", "--can", "250000") == 0
    for name in ("var/lib/fixgw", "var/lib/fixgw-bench", "var/log/fixgw-bench"):
        (system / name).mkdir(parents=True)
        (system / name / "file").touch()
    assert run(system, "remove", "--purge") == 0
    assert snapshot(system) == {}
    assert not [p for p in system.rglob("*") if "fixgw" in p.name]


def test_a_dry_run_removes_nothing_and_reports_the_actions(system: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(system, "--realtime") == 0
    (system / "usr/local/lib" / FILES["sysctl.conf"]).unlink()
    (system / install.REALTIME.lstrip("/")).unlink()
    before = {*system.rglob("*")}
    capsys.readouterr()
    assert run(system, "remove", "--purge", "--dry-run") == 0
    assert {*system.rglob("*")} == before
    said = capsys.readouterr().out
    assert "would be removed: /etc/fixgw\n" in said
    assert "would be removed: /usr/local/lib/udev/rules.d/70-fixgw.rules\n" in said


def test_what_others_have_linked_is_left_alone(system: Path, tmp_path: Path) -> None:
    """A command of theirs, and a disk of their own for the logs."""
    command, logs, disk = system / "usr/local/bin/fixgwc", system / "var/log/fixgw", tmp_path / "disk"
    command.unlink()
    command.symlink_to("/opt/theirs/fixgwc")
    disk.mkdir()
    (disk / "log").touch()
    logs.parent.mkdir(parents=True)
    logs.symlink_to(disk)
    assert run(system, "remove", "--purge") == 0
    assert os.readlink(command) == "/opt/theirs/fixgwc"
    assert not logs.is_symlink()
    assert (disk / "log").exists()


def test_a_link_in_the_place_of_a_file_becomes_a_file(tmp_path: Path) -> None:
    target = install.Target(tmp_path, say=lambda _: None)
    (tmp_path / "same").write_bytes(b"1")
    (tmp_path / "file").symlink_to("same")
    target.write("/file", b"1")
    assert not (tmp_path / "file").is_symlink()


def test_what_is_there_before_the_first_installation_is_the_administrators(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "etc/fixgw"
    folder.mkdir(parents=True)
    (folder / "default.yaml").write_text("connections: {}\n")
    (folder / "demo.yaml").symlink_to("/nowhere")
    assert run(tmp_path) == 0
    said = capsys.readouterr().out
    assert "  kept, because you edited it: /etc/fixgw/default.yaml\n" in said
    assert (folder / "default.yaml").read_text() == "connections: {}\n"
    assert os.readlink(folder / "demo.yaml") == "/nowhere"
    assert "last installation" not in said


def test_the_changes_of_the_defaults_are_a_patch(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "defaults", lambda: {"default.yaml": b"a\nb\n"})
    assert run(system) == 0
    monkeypatch.setattr(install, "defaults", lambda: {"default.yaml": b"a\nc\n", "new.yaml": b"new\n"})
    assert run(system) == 0
    patch = "--- before/default.yaml\n+++ now/default.yaml\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n"
    assert (system / "usr/local/share/fixgw/changes.diff").read_text() == patch


def test_a_file_edited_to_be_the_default_follows_it(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (system / "etc/fixgw/initial.ini").write_bytes(b"# new\n")
    NewVersion(monkeypatch, initial_ini=b"# new\n")
    assert run(system) == 0
    NewVersion(monkeypatch, initial_ini=b"# newer\n")
    assert run(system, "--take-defaults") == 0
    assert (system / "etc/fixgw/initial.ini").read_bytes() == b"# newer\n"


def test_a_command_of_the_same_name_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    own = tmp_path / "usr/local/bin/fixgw"
    own.parent.mkdir(parents=True)
    own.write_text("#!/bin/sh\n")
    assert run(tmp_path) == 0
    assert run(tmp_path, "remove", "--purge") == 0
    assert own.read_text() == "#!/bin/sh\n"


def test_can_is_set_up_with_the_requested_bit_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--can", "500000", "--listen-only", "--realtime") == 0
    text = (tmp_path / "etc/systemd/network/80-fixgw-can.network").read_text()
    assert "\nBitRate=500000\n" in text
    assert "\nListenOnly=yes\n" in text
    assert (tmp_path / "etc/systemd/system/fixgw.service.d/realtime.conf").exists()
    assert "would run: systemctl enable --now systemd-networkd.service" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--wheel", "/nowhere/fixgw.whl"], 1, "there is no wheel /nowhere/fixgw.whl"),
        (["--python", "/bin/false"], 1, "/bin/false does not run as Python"),
        (["--can", "fast"], 2, "'fast' is not a bit rate"),
        (["--can", "9999"], 2, "'9999' is not a bit rate from 10000 to 1000000"),
        (["--can", "1000001"], 2, "'1000001' is not a bit rate"),
        (["upgrade"], 2, "invalid choice"),
    ],
)
def test_errors_are_reported_in_one_sentence(arguments: list[str], code: int, words: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fixgw.install", "--root", str(tmp_path / "system"), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == code
    assert words in result.stderr


def fake_python(directory: Path, *answers: str) -> str:
    path = directory / "python"
    path.write_text("#!/bin/sh\nprintf '" + "\\n".join(answers) + "\\n'\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (("3.9", "", "no"), "is Python 3.9, but 3.11 or later is needed"),
        (("3.10", "", "no"), "is Python 3.10, but 3.11 or later is needed"),
        (("2.12", "", "no"), "is Python 2.12, but 3.11 or later is needed"),
        (("3.12", ""), "does not run as Python: choose another with --python"),
        (("3.12", "no venv", "no"), "sudo apt install python3-venv"),
    ],
)
def test_an_unsuitable_python_is_named(
    answers: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "system", "--python", fake_python(tmp_path, *answers)) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "system").exists()


def test_a_python_that_fails_or_is_missing_is_no_python(tmp_path: Path) -> None:
    python = fake_python(tmp_path, "3.11", "", "yes")
    assert install.base_python(python) == (python, "3.11", True)
    with open(python, "a") as script:
        script.write("exit 1\n")
    for path in (python, str(tmp_path / "nowhere")):
        with pytest.raises(install.Refused, match=f"{path} does not run as Python"):
            install.base_python(path)


def test_a_python_with_a_gpio_library_shares_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "system", "--python", fake_python(tmp_path, "3.12", "", "yes")) == 0
    assert "-m venv --clear --system-site-packages /opt/fixgw" in capsys.readouterr().out


def test_beside_the_debian_package_it_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unit = tmp_path / "usr/lib/systemd/system/fixgw.service"
    unit.parent.mkdir(parents=True)
    unit.touch()
    assert run(tmp_path) == 1
    assert "apt remove fixgw" in capsys.readouterr().err
    assert list(snapshot(tmp_path)) == ["usr/lib/systemd/system/fixgw.service"]


def test_a_read_only_disk_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system", "/etc/fixgw")

    monkeypatch.setattr(os, "replace", refuse)
    assert run(tmp_path) == 1
    assert capsys.readouterr().err.startswith(
        f"fixgw-install: {tmp_path}/etc/fixgw/{next(iter(install.defaults()))}: Read-only file system. Make the disk"
    )
    assert not (tmp_path / "etc/fixgw/default.yaml").exists()


class Killed(BaseException):
    """The process is killed without warning."""


class Computer(install.Target):
    """A system that simulates commands, each in two halves, and kills the installer at half number `last`."""

    def __init__(self, root: Path, last: int = 1_000_000) -> None:
        super().__init__(root, say=lambda _: None)
        self.live = True
        self.path("/run").mkdir(parents=True, exist_ok=True)
        self.changed = self.path(install.RESTART).exists()
        self.left = last
        self.home = self.path(install.HOME)

    def run(self, *command: str, optional: bool = False) -> bool:
        self.half()
        if "venv" in command:
            shutil.rmtree(self.home, ignore_errors=True)
            (self.home / "bin").mkdir(parents=True)
            (self.home / "bin/python").touch()
            version = f"{sys.version_info[0]}.{sys.version_info[1]}.0"
            (self.home / "pyvenv.cfg").write_text(f"version = {version}\ninclude-system-site-packages = false\n")
            self.half()
            (self.home / "pip").touch()
        elif "pip" in command and "install" in command:
            (self.home / "program").unlink(missing_ok=True)
            self.half()
            (self.home / "program").write_text((ROOT / "pyproject.toml").read_text())
        elif command[:2] == ("systemctl", "restart"):
            running = self.path("/running")
            running.write_text((self.home / "program").read_text())
            self.half()
        return True

    def half(self) -> None:
        self.left -= 1
        if self.left < 0:
            self.die()

    def die(self) -> NoReturn:
        raise Killed


def test_the_installed_command_leaves_the_program_alone(
    system: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """To build it again, the installer would have to look itself up in the package index."""
    monkeypatch.setattr(sys, "prefix", str(system / "opt/fixgw"))
    capsys.readouterr()
    assert run(system, "--can", "500000") == 0
    said = capsys.readouterr().out
    assert "this command is part of it" in said
    assert "venv" not in said
    assert "pip" not in said
    for option in (["--extras", "rpi"], ["--system-site-packages"], ["--python", "/usr/bin/python3"]):
        assert run(system, *option) == 1
        assert "--wheel FILE, or systemd/install of a clone" in capsys.readouterr().err
    (system / "fixgw.whl").touch()
    assert run(system, "--wheel", str(system / "fixgw.whl"), "--extras", "rpi") == 0
    assert f"--quiet install '{system}/fixgw.whl[rpi]'" in capsys.readouterr().out


def test_a_copy_elsewhere_does_not_look_itself_up_in_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install, "__file__", str(tmp_path / "site-packages/fixgw/install.py"))
    assert run(tmp_path / "system") == 1
    assert "an installed copy cannot install the program" in capsys.readouterr().err


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    """Make `install` work on a `Computer`. Only the installer's own marks distinguish a complete environment."""
    monkeypatch.setattr(install, "need_root", lambda: None)
    monkeypatch.setattr(install, "works", lambda _: True)
    monkeypatch.setattr(install, "systemd_runs", lambda _: True)
    monkeypatch.setattr(install, "is_active", lambda: True)  # the previous one: the worst case
    monkeypatch.setattr(install, "defaults", lambda: {"default.yaml": b"connections: {}\n"})
    monkeypatch.setattr(shutil, "which", lambda _: "/bin/true")
    monkeypatch.setattr(shutil, "copytree", lambda source, target, **_: Path(target).mkdir())  # pip is simulated too
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return install.parser().parse_args(["--python", fake_python(tmp_path, version, "", "no")])


def test_the_next_run_repairs_an_installation_killed_at_any_step(tmp_path: Path, played: argparse.Namespace) -> None:
    for last in range(40):
        root = tmp_path / str(last)
        first = Computer(root, last)
        with contextlib.suppress(Killed):
            install.install(first, played)
        assert install.install(Computer(root), played) == 0
        for name in ("opt/fixgw/pip", "opt/fixgw/program", "running"):
            assert (root / name).exists(), f"no {name} after {last}"
        assert not (root / install.RESTART.lstrip("/")).exists()
        if first.left >= 0:
            break  # it ran to the end
    assert 15 < last < 39, last


def test_a_killed_upgrade_can_be_reverted(
    tmp_path: Path, played: argparse.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    install.install(Computer(tmp_path), played)
    monkeypatch.setattr(install, "fingerprint", lambda *_: "version 2")
    upgrade = Computer(tmp_path)
    with contextlib.suppress(Killed):
        monkeypatch.setattr(upgrade, "half", lambda: (tmp_path / "opt/fixgw/program").exists() or upgrade.die())
        install.install(upgrade, played)
    assert not (tmp_path / "opt/fixgw/program").exists()
    monkeypatch.setattr(install, "fingerprint", lambda *_: "version 1")
    assert install.install(Computer(tmp_path), played) == 0
    assert (tmp_path / "opt/fixgw/program").exists()


class Bare(Computer):
    """A system on which commands with one of these words fail."""

    def __init__(self, root: Path, *fail: str) -> None:
        super().__init__(root)
        self.fail = {*fail}
        self.failed: list[str] = []
        self.last = ""

    def run(self, *command: str, optional: bool = False) -> bool:
        self.last = shlex.join(command)
        if not self.fail & {*command}:
            return super().run(*command, optional=optional)
        self.failed.append(command[0])
        if not optional:
            raise install.Refused(f"this command failed: {shlex.join(command)}")
        return False


def test_what_only_helps_may_fail(tmp_path: Path, played: argparse.Namespace) -> None:
    helps = "systemd-tmpfiles", "/usr/lib/systemd/systemd-sysctl", "modprobe", "udevadm"
    computer = Bare(tmp_path, *helps, "reset-failed", "try-restart", "status")
    assert install.install(computer, played) == 0
    assert [*dict.fromkeys(computer.failed)] == [*helps, "systemctl"]
    assert (tmp_path / "running").exists()
    played.can, played.purge = 250_000, True
    bare = Bare(tmp_path, "systemd-networkd-wait-online.service")
    bare.live = False
    install.start_networkd(bare)
    assert bare.failed == ["systemctl"]
    assert install.remove(Bare(tmp_path, "disable", "stop", "daemon-reload", "udevadm", "userdel"), played) == 0


@pytest.mark.parametrize(
    ("fails", "words"),
    [
        ("systemd-sysusers", "this command failed: systemd-sysusers"),
        ("unmask", "this command failed: systemctl unmask"),
        ("enable", "this command failed: systemctl enable"),
        ("check", "the configuration has problems; correct them, then run: sudo systemctl restart fixgw.service"),
        ("restart", "the gateway did not start: see above"),
    ],
)
def test_what_is_needed_must_not_fail(tmp_path: Path, played: argparse.Namespace, fails: str, words: str) -> None:
    computer = Bare(tmp_path, fails, "status")  # which fails for a service that is down
    with pytest.raises(install.Refused, match=words):
        install.install(computer, played)
    if fails == "restart":
        assert computer.last == "systemctl --no-pager --lines=20 status fixgw.service"
    else:
        assert fails in computer.last


class Noted(Computer):
    """Notes the commands for the service, and what is said."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.commands: list[str] = []
        self.said: list[str] = []
        self.say = lambda text: self.said.append(str(text))

    def run(self, *command: str, optional: bool = False) -> bool:
        self.commands.append(" ".join(command))
        return super().run(*command, optional=optional)


def test_only_what_has_changed_is_restarted(
    tmp_path: Path, played: argparse.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Noted(tmp_path)
    assert install.install(first, played) == 0
    assert "systemctl restart fixgw.service" in first.commands
    assert first.said[-1].startswith("Done. Edit /etc/fixgw/default.yaml")
    again = Noted(tmp_path)
    assert install.install(again, played) == 0
    assert not any("restart" in command for command in again.commands)
    assert "pip" not in " ".join(again.commands)
    assert again.said[-1] == "  running, and nothing has changed"
    assert not any("--force-reinstall" in command for command in first.commands)
    monkeypatch.setattr(install, "fingerprint", lambda *_: "version 2")
    upgrade = Noted(tmp_path)
    assert install.install(upgrade, played) == 0
    assert sum("--force-reinstall --no-deps" in command for command in upgrade.commands) == 1, (
        "it may say the same version"
    )
    assert not any("venv" in command for command in upgrade.commands)
    assert "systemctl restart fixgw.service" in upgrade.commands
    monkeypatch.setattr(install, "is_active", lambda: False)
    inactive = Noted(tmp_path)
    assert install.install(inactive, played) == 0
    assert "systemctl restart fixgw.service" in inactive.commands
    monkeypatch.setattr(install, "systemd_runs", lambda _: False)
    later = Noted(tmp_path)
    assert install.install(later, played) == 0
    assert later.said[-1] == "  systemd is not running: the gateway will start with the system"
    assert later.commands[-1] == "systemctl enable fixgw.service"


@pytest.mark.parametrize(
    ("enabled", "commands"),
    [
        (0, ["networkctl reload"]),
        (
            1,
            [
                "systemctl enable --now systemd-networkd.service",
                "systemctl disable systemd-networkd-wait-online.service",
            ],
        ),
    ],
)
def test_networkd_is_enabled_unless_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enabled: int, commands: list[str]
) -> None:
    asked: list[list[str]] = []

    def answer(command: list[str], check: bool) -> subprocess.CompletedProcess[bytes]:
        asked.append(command)
        done = subprocess.CompletedProcess[bytes](command, enabled)
        if check:
            done.check_returncode()
        return done

    monkeypatch.setattr(subprocess, "run", answer)
    computer = Noted(tmp_path)
    install.start_networkd(computer)
    assert computer.commands == commands
    assert install.is_active() is (enabled == 0)
    assert asked == [
        ["systemctl", "--quiet", "is-enabled", "systemd-networkd.service"],
        ["systemctl", "--quiet", "is-active", "fixgw.service"],
    ]


def test_the_same_program_has_the_same_fingerprint(tmp_path: Path) -> None:
    def clone(**files: str) -> str:
        folder = tmp_path / str(len([*tmp_path.iterdir()]))
        for name, text in files.items():
            path = folder / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return fingerprint(str(folder), "")

    one = clone(a="1", b__c="2")
    assert clone(b__c="2", a="1") == one
    assert clone(a="1", b__c="2", build__x="3", dist__y="4") == one, "what was built is no part of it"
    others = {clone(a="1", b__c="3"), clone(a="1", b__d="2"), clone(a="1"), clone(a="1", b__c="2", d="")}
    assert len({one, *others}) == 5
    wheel = tmp_path / "fixgw.whl"
    wheel.write_text("1")
    prints = [fingerprint(str(wheel), extras) for extras in ("", "rpi", "")]
    wheel.write_text("2")
    assert prints[0] == prints[2]
    assert len({*prints, fingerprint(str(wheel), "")}) == 3


def test_a_python_without_pip_is_noticed_in_silence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    python = tmp_path / "python"
    for code in (0, 1):
        python.write_text(f"#!/bin/sh\necho noise\necho noise >&2\nexit {code}\n")
        python.chmod(0o755)
        assert install.works(str(python)) is (code == 0)
    assert install.works(str(tmp_path / "nowhere")) is False
    assert capfd.readouterr() == ("", "")


def test_the_source_is_the_wheel_or_the_clone_that_this_command_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = tmp_path / "downloads.whl"
    clone.mkdir()
    (clone / "pyproject.toml").touch()
    monkeypatch.setattr(install, "__file__", str(clone / "fixgw/install.py"))
    assert install.own_source() == str(clone), "a folder is no wheel, whatever its name"
    (tmp_path / "fixgw.whl").touch()
    (tmp_path / "fixgw.zip").touch()
    monkeypatch.setattr(install, "__file__", str(tmp_path / "fixgw.whl/fixgw/install.py"))
    assert install.own_source() == str(tmp_path / "fixgw.whl")
    monkeypatch.setattr(install, "__file__", str(tmp_path / "fixgw.zip/fixgw/install.py"))
    with pytest.raises(install.Refused):
        install.own_source()


def test_a_clone_is_built_from_a_copy_without_what_was_built(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    for name in ("pyproject.toml", ".git/HEAD", "build/x", "fixgw/a.py"):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).touch()
    (clone / "link").symlink_to("nowhere")
    copied: list[str] = []
    scratches: list[Path] = []

    class Building(Noted):
        def run(self, *command: str, optional: bool = False) -> bool:
            self.commands.append(" ".join(command[7:]))
            if "wheel" in command:
                source = Path(command[-1])
                copied.extend(sorted(str(p.relative_to(source)) for p in source.rglob("*") if not p.is_dir()))
                scratches.append(source.parent)
                (source.parent / "fixgw-2.0.whl").touch()
            return True

    arguments = install.parser().parse_args(["--offline", "--extras", "rpi"])
    target = Building(tmp_path)
    install.pip_install(target, str(clone), arguments, again=False)
    (scratch,) = scratches
    assert copied == ["fixgw/a.py", "link", "pyproject.toml"]
    assert target.commands == [
        f"wheel --no-deps --wheel-dir {scratch} --no-index {scratch}/source",
        f"install --no-index {scratch}/fixgw-2.0.whl[rpi]",
    ]
    assert not scratch.exists()


def test_the_commands_that_would_build_a_clone_are_shown(tmp_path: Path) -> None:
    said: list[str] = []
    target = install.Target(tmp_path, say=said.append)
    install.pip_install(target, str(ROOT), install.parser().parse_args([]), again=False)
    pip = "  would run: /opt/fixgw/bin/python -I -m pip --disable-pip-version-check --no-input --quiet"
    scratch = "/tmp/fixgw-install"
    assert said == [
        f"{pip} wheel --no-deps --wheel-dir {scratch} {scratch}/source",
        f"{pip} install {scratch}/fixgw.whl",
    ]


def test_a_broken_environment_is_made_anew(
    tmp_path: Path, played: argparse.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks: list[tuple[str, str | None]] = []
    mark = tmp_path / "opt/fixgw/installed"

    def note(what: str) -> None:
        marks.append((what, mark.read_text() if mark.exists() else None))

    class Marked(Computer):
        def run(self, *command: str, optional: bool = False) -> bool:
            if "venv" in command or "pip" in command:
                note("venv" if "venv" in command else "pip")
            return super().run(*command, optional=optional)

    assert install.install(Computer(tmp_path), played) == 0
    shown = Noted(tmp_path)
    shown.live = False
    monkeypatch.setattr(install, "works", lambda _: False)
    assert install.install(shown, played) == 0
    assert "  unchanged: nothing to install" in shown.said, "only a live system is asked whether it works"
    monkeypatch.setattr(os, "sync", lambda: note("sync"))
    assert install.install(Marked(tmp_path), played) == 0
    assert marks[0] == ("venv", None)
    assert marks[1:-1] == [("pip", "")] * len(marks[1:-1])
    assert marks[-1] == ("sync", ""), "it is named complete when all of it is on the disk"
    assert mark.read_text() != ""


@pytest.mark.parametrize("action", [install.install, install.remove])
def test_nothing_is_changed_without_root(
    tmp_path: Path, played: argparse.Namespace, monkeypatch: pytest.MonkeyPatch, action: Callable[..., int]
) -> None:
    def refuse() -> None:
        raise install.Refused("root")

    assert install.install(Computer(tmp_path), played) == 0
    before = snapshot(tmp_path)
    monkeypatch.setattr(install, "need_root", refuse)
    computer = Noted(tmp_path)
    with pytest.raises(install.Refused, match="root"):
        action(computer, played)
    assert (snapshot(tmp_path), computer.commands) == (before, [])


def test_where_systemd_does_not_run_the_service_is_only_disabled(
    tmp_path: Path, played: argparse.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "systemd_runs", lambda _: False)
    assert install.install(Computer(tmp_path), played) == 0
    assert (tmp_path / install.RESTART.lstrip("/")).exists()
    for _ in range(2):
        computer = Noted(tmp_path)
        assert install.remove(computer, played) == 0
        assert computer.commands == ["systemctl disable fixgw.service fixgw@.service"]
        assert not (tmp_path / install.RESTART.lstrip("/")).exists()


@pytest.mark.parametrize("runs", [True, False])
def test_systemd_runs_if_it_has_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: bool) -> None:
    monkeypatch.setattr(os.path, "isdir", lambda path: runs and path == "/run/systemd/system")
    assert install.systemd_runs(Computer(tmp_path)) is runs
    assert install.systemd_runs(install.Target(tmp_path))


def test_only_a_live_system_remembers_that_it_needs_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "RESTART", str(tmp_path / "restart"))
    assert not install.Target(Path("/")).changed
    install.Target(Path("/"), pretend=True).changes()
    assert not (tmp_path / "restart").exists()
    install.Target(Path("/")).changes()
    assert install.Target(Path("/")).changed
    assert not install.Target(Path("/"), pretend=True).changed


def test_what_is_said_comes_before_the_output_of_the_next_command(tmp_path: Path) -> None:
    code = (
        "import os, sys; from fixgw import install\n"
        "install.status = lambda target, _: target.say('first') or os.system('echo second')\n"
        "sys.exit(install.main(['status', '--root', sys.argv[1]]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    result = subprocess.run(command, capture_output=True, text=True, env=buffered, check=True)
    assert result.stdout == "first\nsecond\n"


@pytest.mark.parametrize("missing", ["systemctl", "systemd-sysusers"])
def test_without_systemd_it_installs_no_service(
    tmp_path: Path, played: argparse.Namespace, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None if name == missing else f"/usr/bin/{name}")
    with pytest.raises(install.Refused, match="has no systemd"):
        install.install(Computer(tmp_path), played)
    assert not (tmp_path / "etc").exists()


def test_the_outcome_of_a_command_is_told(tmp_path: Path) -> None:
    said: list[str] = []
    target = install.Target(tmp_path, say=said.append)
    target.live = True
    assert target.run("true")
    assert not target.run("false", optional=True)
    assert not target.run("no-such-command", "now", optional=True)
    assert said == [
        "  $ true",
        "  $ false",
        "  $ no-such-command now",
        "  there is no no-such-command on this computer",
    ]
    with pytest.raises(install.Refused, match=r"this command failed .*: sh -c 'exit 3'"):
        target.run("sh", "-c", "exit 3")


def test_the_packages_of_the_system_are_used_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--system-site-packages") == 0
    assert "-m venv --clear --system-site-packages /opt/fixgw" in capsys.readouterr().out


def test_only_root_may_change_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    for uid in (1, 1000):
        monkeypatch.setattr(os, "geteuid", lambda uid=uid: uid)
        with pytest.raises(install.Refused, match="sudo"):
            install.need_root()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    install.need_root()


def test_without_root_it_asks_for_sudo() -> None:
    """As user nobody, after the import, because nobody may not enter root's home, where this test may run."""
    become_nobody = "os.geteuid() or os.setuid(65534)"
    code = f"import os, sys; from fixgw.install import main; {become_nobody}; sys.exit(main([]))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/", check=False)
    assert result.returncode == 1
    assert "needs root: run the same command with sudo" in result.stderr


def test_it_needs_only_the_standard_library() -> None:
    """It must work before anything is installed: here without site-packages."""
    code = (
        "import sys, fixgw.install; print(sorted({m.partition('.')[0] for m in sys.modules} - sys.stdlib_module_names))"
    )
    command = [sys.executable, "-S", "-c", code]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert result.stdout.strip() in ("['__main__', 'fixgw']", "['fixgw']")


def test_nothing_in_the_current_directory_is_executed(tmp_path: Path) -> None:
    """The installer runs as root, perhaps in a folder of downloads."""
    for name in ("argparse.py", "runpy.py", "venv.py", "pip.py", "fixgw.py", "sitecustomize.py"):
        (tmp_path / name).write_text("open('executed', 'w').close()\nraise SystemExit(66)\n")
    command = [str(ROOT / "systemd" / "install"), "--dry-run", "--root", str(tmp_path / "system")]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert not (tmp_path / "executed").exists(), result
    assert "/opt/fixgw" in result.stdout, result


def test_the_script_of_the_clone_is_the_same_command(tmp_path: Path) -> None:
    script = [str(ROOT / "systemd/install"), "--root", str(tmp_path / "system")]
    result = subprocess.run(script, capture_output=True, text=True, cwd=tmp_path, check=False)
    if "venv module is missing" in result.stderr or "3.11 or newer" in result.stderr:
        pytest.skip(result.stderr)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "system/usr/local/lib/systemd/system/fixgw.service").is_file()
    assert f"from {ROOT}" in result.stdout


def test_it_runs_straight_from_a_wheel(tmp_path: Path) -> None:
    """A wheel is a zip file, and Python runs zip files."""
    wheel = tmp_path / "fixgw-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for folder, inside in (("fixgw", "fixgw"), ("config", "fixgw/config"), ("systemd", "fixgw/systemd")):
            for path in (ROOT / folder).rglob("*"):
                if path.is_file() and "__pycache__" not in path.parts:
                    archive.write(path, f"{inside}/{path.relative_to(ROOT / folder)}")
    command = [sys.executable, "-m", "fixgw.install", "--root", str(tmp_path / "system")]
    environment = {**os.environ, "PYTHONPATH": str(wheel)}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert result.returncode == 0, result.stderr
    assert f"from {wheel}" in result.stdout
    assert (tmp_path / "system/etc/fixgw/default.yaml").read_bytes() == (ROOT / "config/default.yaml").read_bytes()


def test_the_state_of_the_service_is_shown(tmp_path: Path, system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    target = install.Target(system, say=said.append)
    target.live = True

    def stopped(command: list[str], check: bool) -> None:
        said.append(" ".join(command))
        if check:
            raise subprocess.CalledProcessError(3, command)

    monkeypatch.setattr(subprocess, "run", stopped)
    assert install.status(target, install.parser().parse_args(["status"])) == 0
    assert said[:5] == [
        "/opt/fixgw/bin/fixgw --version",
        "is-enabled fixgw.service:",
        "systemctl is-enabled fixgw.service",
        "is-active fixgw.service:",
        "systemctl is-active fixgw.service",
    ]


def test_the_installed_files_are_reported(system: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (system / "etc/fixgw/default.yaml").write_text("connections: {}\n")
    (system / "etc/fixgw/demo.yaml").unlink()
    capsys.readouterr()
    assert run(system, "status") == 0
    said = capsys.readouterr().out
    assert said.startswith("configuration, compared with its defaults:\n  ")
    assert "  edited: /etc/fixgw/default.yaml" in said
    assert "removed: /etc/fixgw/demo.yaml" in said
    assert "unedited: /etc/fixgw/initial.ini" in said
    assert run(system / "elsewhere", "status") == 1
    assert capsys.readouterr().out == "not installed\n"
