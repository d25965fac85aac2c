"""The machine's disk: a small Debian 13, built once and kept outside the tree.

`build` needs mmdebstrap and a Debian mirror; as an ordinary user also uidmap (mmdebstrap then uses user namespaces).
The result is three files, a raw ext4 disk, a kernel and an initial ramdisk, in a folder whose name has a digest of what
they were built from: a change of this module or of the agent builds anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
SUITE = "trixie"
KERNELS = f"{SUITE}-backports"  # its kernel has gpio-sim; that of the suite has not
PYTHON = "3.13"  # that of the suite
MIRROR = os.environ.get("FIXGW_VM_MIRROR", "http://deb.debian.org/debian")
MEGABYTES = 2500  # of disk; only what is used takes room on the host

PACKAGES = (
    "systemd",
    "systemd-sysv",
    "systemd-timesyncd",
    "udev",
    "dbus",
    "iproute2",
    "kmod",
    "procps",
    "initramfs-tools",
    f"linux-image-amd64/{KERNELS}",
    "python3",
    "python3-venv",
    "can-utils",
)
#: Needed to compile lgpio, which has no wheel for the machine's Python; gone from the finished disk.
COMPILER = ("gcc", "libc6-dev", "python3-dev", "swig")

#: What would only cost time in an emulated machine.
MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "ldconfig.service",
    "systemd-firstboot.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-networkd-wait-online.service",
    "systemd-update-done.service",
)

#: Hooks of mmdebstrap, run as root ($1: the new root directory). Before the packages are unpacked: an initial ramdisk
#: of just what finds the disk.
BEFORE = r"""
mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/usr/share/initramfs-tools/modules.d"
printf 'MODULES=list\nCOMPRESS=gzip\n' > "$1/etc/initramfs-tools/conf.d/vm"
printf 'virtio_pci\nvirtio_blk\next4\n' > "$1/usr/share/initramfs-tools/modules.d/vm"
"""

#: And when all is installed.
AFTER = r"""
root=$1
mkdir "$root/var/tmp/lgpio"
cp {out}/source/* "$root/var/tmp/lgpio"
chroot "$root" sh -ec '
  cd /var/tmp/lgpio
  python3 -m venv build
  PYPI=1 build/bin/pip wheel --quiet --disable-pip-version-check --no-index --find-links . lgpio
  apt-get --quiet --yes purge --auto-remove {compiler}'
mv "$root"/var/tmp/lgpio/lgpio-*.whl {out}
rm -rf "$root/var/tmp/lgpio"
echo fixgw-vm > "$root/etc/hostname"
printf '127.0.0.1 localhost fixgw-vm\n' > "$root/etc/hosts"
echo uninitialized > "$root/etc/machine-id"
echo '/dev/vda / ext4 errors=remount-ro 0 1' > "$root/etc/fstab"
for unit in {masked}; do ln -sf /dev/null "$root/etc/systemd/system/$unit"; done
install -D -m 755 {here}/agent.py "$root/usr/local/lib/fixgw-vm/agent"
install -D -m 644 {here}/agent.service "$root/etc/systemd/system/fixgw-vm-agent.service"
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -sf ../fixgw-vm-agent.service "$root/etc/systemd/system/multi-user.target.wants/fixgw-vm-agent.service"
# Nothing is left to be done at the first boot.
chroot "$root" sh -c 'ldconfig; systemd-hwdb update; systemd-sysusers; journalctl --update-catalog'
rm -rf "$root"/var/cache/apt/*.bin "$root"/var/lib/apt/lists/*
touch "$root/etc/.updated" "$root/var/.updated"
cp -L "$root"/boot/vmlinuz-* {out}/vmlinuz
cp -L "$root"/boot/initrd.img-* {out}/initrd
rm -f "$root"/boot/initrd.img-*
mkdir {out}/root
mount --bind "$root" {out}/root  # without the file systems that are mounted in it
mke2fs -q -t ext4 -E lazy_itable_init=1 -d {out}/root {out}/disk {megabytes}M
umount {out}/root
rmdir {out}/root
chmod 644 {out}/disk {out}/vmlinuz {out}/initrd {out}/*.whl
"""


class Unavailable(Exception):
    """The machine cannot be had here; says what is missing."""


@dataclass(frozen=True)
class Image:
    """Paths of the files of a machine, and a folder with a wheel of lgpio for its Python."""

    disk: Path
    kernel: Path
    initrd: Path
    folder: Path


def cache() -> Path:
    """Where images and downloaded wheels are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "fixgw-vm"


def missing() -> str:
    """What has to be installed before a machine can be had, in words; "" when nothing."""
    programs = {"qemu-system-x86_64": "qemu-system-x86"}
    if not _folder().exists():
        programs |= {"mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs"}
        if os.geteuid() != 0:
            programs["newuidmap"] = "uidmap"
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    packages = [package for program, package in programs.items() if not shutil.which(program, path=path)]
    return f"not installed: {' '.join(packages)}" if packages else ""


def build() -> Image:
    """The image, built if there is none. Raises Unavailable."""
    if lacking := missing():
        raise Unavailable(lacking)
    cache().mkdir(parents=True, exist_ok=True)
    folder = _folder()
    with (cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _bootstrap(folder)
    return Image(folder / "disk", folder / "vmlinuz", folder / "initrd", folder)


def pip_download(*arguments: str, to: Path) -> None:
    """Raises Unavailable."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--dest", str(to)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise Unavailable(f"pip download {' '.join(arguments)}:\n{done.stderr[-2000:]}")


def _folder() -> Path:
    digest = hashlib.sha256(
        b"".join(p.read_bytes() for p in (Path(__file__), HERE / "agent.py", HERE / "agent.service"))
    )
    return cache() / f"{SUITE}-{digest.hexdigest()[:12]}"


def _bootstrap(folder: Path) -> None:
    """mmdebstrap, with everything else done in its hooks: there we are root, be it in a user namespace."""
    print(f"building a Debian {SUITE} image in {folder}: once, some minutes ...", flush=True)
    for old in cache().glob(f"{SUITE}-*"):
        shutil.rmtree(old)
    new = cache() / "new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    new.chmod(stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO)  # the namespace's root is somebody else to the host
    hooks = {
        "before": BEFORE,
        "after": AFTER.format(
            masked=" ".join(MASKED),
            compiler=" ".join(COMPILER),
            here=shlex.quote(str(HERE)),
            out=shlex.quote(str(new)),
            megabytes=MEGABYTES,
        ),
    }
    for name, script in hooks.items():
        (new / name).write_text(f"#!/bin/sh -e\n{script}")
        (new / name).chmod(0o755)
    (new / "source").mkdir()
    pip_download("--no-deps", "--no-binary", "lgpio", "lgpio>=0.2.2", "setuptools", to=new / "source")
    command = [
        *("mmdebstrap", "--quiet", "--variant=minbase", "--format=null", f"--include={','.join(PACKAGES + COMPILER)}"),
        *(f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale", "info")),
        f"--essential-hook={new / 'before'}",
        f"--customize-hook={new / 'after'}",
        *(SUITE, "/dev/null", f"deb {MIRROR} {SUITE} main", f"deb {MIRROR} {KERNELS} main"),
    ]
    environment = os.environ | {"PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}
    log = new / "log"
    with log.open("w") as output:
        done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
    if done.returncode or not (new / "disk").exists():
        raise Unavailable(f"the image could not be built:\n{log.read_text()[-2000:]}")
    new.chmod(0o755)
    new.rename(folder)
