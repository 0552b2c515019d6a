"""A Debian for 64-bit Arm that this machine emulates: programs of qemu-user, run by binfmt_misc.

It shows that packages resolve there and that code and protocol run; it says nothing about speed.
Root, ``debootstrap`` and ``qemu-user-static`` are needed, and a network.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import SYSTEM_PATH

ROOT = Path(__file__).parents[2]
SUITE = "bookworm"
EMULATOR = "qemu-aarch64-static"
BINFMT = Path("/proc/sys/fs/binfmt_misc")
#: ELF of 64 bit, little-endian, for machine 183 (AArch64): scripts/qemu-binfmt-conf.sh of QEMU.
#: With F the kernel opens the emulator now, so that it need not lie in the other system.
MAGIC = r"\x7fELF\x02\x01\x01" + r"\x00" * 9 + r"\x02\x00\xb7\x00"
MASK = r"\xff" * 7 + r"\x00" + r"\xff" * 8 + r"\xfe\xff\xff\xff"
#: What ``pip install ./board`` reads.
SOURCES = ("cspbench", "suites", "board", "LICENSE")
MOUNTS = (("proc", "proc"), ("sysfs", "sys"), ("tmpfs", "dev/shm"))
#: Of commands there: nothing of this machine's Python and folders.
ENVIRONMENT = {"PATH": "/venv/bin:/usr/bin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
#: A processor of /proc/cpuinfo as Arm's kernel writes it (a Cortex-A72): QEMU 7.2 shows programs
#: the text of this machine, and the cpuinfo library in ONNX Runtime ends in SIGSEGV over it.
PROCESSOR = """processor\t: {number}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""


class Arm64:
    """The system in a folder, which is kept: setting it up takes minutes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def set_up(self) -> None:
        """Make the system, unless an earlier run has, and copy the sources into it."""
        self.unmount()  # of a run that was killed
        _register()
        made = self.folder / ".made"
        if not made.exists():
            shutil.rmtree(self.folder, ignore_errors=True)
            _run("debootstrap", "--arch=arm64", "--variant=minbase",
                 "--include=python3-venv,ca-certificates", SUITE, str(self.folder))  # fmt: skip
            made.touch()
        for name in ("etc/resolv.conf", "etc/ssl/certs/ca-certificates.crt"):
            if Path("/", name).exists():
                shutil.copyfile(Path("/", name), self.folder / name)
        sources = self.folder / "src"
        shutil.rmtree(sources, ignore_errors=True)
        sources.mkdir()
        for name in SOURCES:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
            copy(ROOT / name, sources / name)

    @contextlib.contextmanager
    def mounted(self) -> Iterator[None]:
        """Devices, the kernel's file systems and Arm processors in it, to the end of the block."""
        try:
            for kind, name in MOUNTS:
                place = self.folder / name
                place.mkdir(parents=True, exist_ok=True)
                _run("mount", "-t", kind, kind, str(place))
            for name in DEVICES:
                place = self.folder / "dev" / name
                place.touch()
                _run("mount", "--bind", f"/dev/{name}", str(place))
            processors = self.folder / "run/cpuinfo"
            count = len(os.sched_getaffinity(0))
            processors.write_text("".join(PROCESSOR.format(number=one) for one in range(count)))
            _run("mount", "--bind", str(processors), str(self.folder / "proc/cpuinfo"))
            yield
        finally:
            self.unmount()

    def unmount(self) -> None:
        """Take away what is mounted below the folder, the deepest first."""
        places = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for place in sorted(places, key=len, reverse=True):
            if Path(place).is_relative_to(self.folder):
                _run("umount", "--lazy", place)

    def install(self) -> None:
        """The one documented command, in an environment of its own; an earlier one is renewed."""
        if not (self.folder / "venv/.made").exists():
            self.run("python3", "-m", "venv", "--clear", "/venv")
            (self.folder / "venv/.made").touch()
        board = "/src/board[onnx]"
        self.run("/venv/bin/pip", "install", "--no-cache-dir", board, pip=True)
        again = ["--force-reinstall", "--no-deps"]  # the same version of newer sources
        self.run("/venv/bin/pip", "install", "--no-cache-dir", *again, board, pip=True)

    def words(self, *command: str) -> list[str]:
        """A command of this machine that runs one in the system."""
        chroot = shutil.which("chroot", path=SYSTEM_PATH)
        assert chroot is not None
        return [chroot, str(self.folder), *command]

    def run(self, *command: str, seconds: float = 1200, pip: bool = False) -> str:
        """The output of a command, which must end well; ``pip`` gets this machine's settings."""
        kept = {name: value for name, value in os.environ.items()
                if name.startswith("PIP_") or name.lower().endswith("_proxy")}  # fmt: skip
        done = subprocess.run(
            self.words(*command), env={**ENVIRONMENT, **(kept if pip else {})},
            capture_output=True, text=True, timeout=seconds, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr


def missing() -> list[str]:
    """Programs that setting it up needs and this machine lacks."""
    names = ("debootstrap", EMULATOR, "chroot", "mount")
    return [name for name in names if shutil.which(name, path=SYSTEM_PATH) is None]


def _register() -> None:
    """Let the kernel run programs of that architecture by the emulator."""
    if not (BINFMT / "register").exists():
        _run("mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT))
    if not any(BINFMT.glob("qemu-aarch64*")):
        emulator = shutil.which(EMULATOR, path=SYSTEM_PATH)
        (BINFMT / "register").write_text(f":qemu-aarch64:M::{MAGIC}:{MASK}:{emulator}:F")


def _run(*command: str) -> None:
    environment = {**os.environ, "PATH": SYSTEM_PATH}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
