"""A real systemd for tests, in namespaces of its own, over a root that nothing outside of memory changes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import streamrnn

HERE = Path(__file__).parent
CGROUPS = Path("/sys/fs/cgroup/systemd")
KERNELS = "/var/cache/private/streamrnn"  # CacheDirectory= of a unit with DynamicUser=
LIMIT_S = 900.0  # for a test that hangs, never for one that passes
_NAMESPACES = ("--mount", "--pid", "--cgroup", "--ipc", "--uts")


def obstacle() -> str | None:
    """Why no systemd can be started here, in a few words; None: it can."""
    if os.geteuid() != 0:
        return "a systemd in namespaces takes root"
    if not Path("/lib/systemd/systemd").exists():
        return "systemd is not installed"
    if not os.access(CGROUPS, os.W_OK):
        return f"{CGROUPS} is not there to be written"
    if "overlay" not in Path("/proc/filesystems").read_text():
        return "the kernel has no overlay file system"
    theirs = subprocess.run(["/usr/bin/python3", "-V"], capture_output=True, text=True, check=False).stdout.split()
    if theirs[1:] == [] or theirs[1].split(".")[:2] != sys.version.split()[0].split(".")[:2]:
        return "/usr/bin/python3, which the service runs with, is not the version of Python of these tests"
    return None


class Box:
    """A systemd, and the unit of the repository installed in it.

    Parameters
    ----------
    cache
        Where boxes leave compiled kernels to each other.
    """

    def __init__(self, cache: Path | None = None) -> None:
        self._cache = cache
        self._cgroup = CGROUPS / f"streamrnn-box-{os.getpid()}"
        self._process: subprocess.Popen[bytes] | None = None
        self.pid = 0

    def __enter__(self) -> Box:
        self._cgroup.mkdir()
        packages = sysconfig.get_path("purelib")
        source = Path(streamrnn.__file__).parent.parent
        script = f"echo $$ > {self._cgroup}/cgroup.procs; exec unshare {' '.join(_NAMESPACES)} --fork --kill-child"
        command = ["/bin/sh", "-c", f'{script} /bin/sh "$@"', "sh", str(HERE / "systemd_box.sh"), source, packages]
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)
        try:
            self._until_up()
            self._install()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()  # with --kill-child all that is in the box ends, by the end of its first process
        self._process.wait()
        self._log.close()
        deadline = time.monotonic() + 10
        while self._cgroup.exists() and time.monotonic() < deadline:
            for folder, _, _ in os.walk(self._cgroup, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError:
                    time.sleep(0.05)

    def run(self, *command: str, check: bool = True, stdin: str | None = None) -> str:
        """Run a command in the box; return what it prints."""
        inside = ["nsenter", "-t", str(self.pid), "-m", "-p", "-C", "-i", "-u", "--wd=/", *command]
        ended = subprocess.run(inside, capture_output=True, text=True, timeout=60, input=stdin, check=False)
        assert not check or ended.returncode == 0, f"{command}: {ended.stdout}{ended.stderr}{self.log}"
        return ended.stdout

    def write(self, path: str, text: str) -> None:
        self.run("/bin/sh", "-c", f'mkdir -p "$(dirname {path})" && cat > {path}', stdin=text)

    def systemctl(self, *words: str, check: bool = True) -> str:
        return self.run("systemctl", *words, check=check)

    def show(self, name: str) -> str:
        """A property of the service."""
        return self.systemctl("show", "streamrnn", "--value", "-p", name).strip()

    def until(self, name: str, value: str, limit_s: float = LIMIT_S) -> float:
        """Wait until a property has this value; return the seconds it took."""
        began = time.monotonic()
        while self.show(name) != value:
            assert time.monotonic() - began < limit_s, f"{name} is {self.show(name)}\n{self.journal()}"
            time.sleep(0.1)
        return time.monotonic() - began

    def kill(self, number: signal.Signals) -> None:
        self.systemctl("kill", "--kill-whom=main", f"--signal={number.name}", "streamrnn")

    def keep_cache(self) -> None:
        """Leave what this box has compiled to later ones, if none has yet."""
        if self._cache is None or self._cache.exists():
            return
        own = self._cache.with_name(f"{self._cache.name}-{os.getpid()}")
        shutil.copytree(f"/proc/{self.pid}/root{KERNELS}", own)
        try:
            own.rename(self._cache)
        except OSError:  # another was first
            shutil.rmtree(own)

    def journal(self) -> str:
        return self.run("journalctl", "--no-pager", "-o", "short-precise", "-u", "streamrnn", check=False)

    @property
    def log(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def _until_up(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + 30
        while True:
            assert self._process.poll() is None, f"systemd did not start: {self.log}"
            assert time.monotonic() < deadline, f"systemd did not come up: {self.log}"
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
            if children:
                self.pid = int(children[0])
                if "systemd" in Path(f"/proc/{self.pid}/comm").read_text():
                    ended = self.run("systemctl", "is-system-running", check=False).strip()
                    if ended in ("running", "degraded"):
                        return
            time.sleep(0.1)

    def _install(self) -> None:
        """What install.sh does, with this computer's packages in place of a download."""
        self.run("/usr/bin/python3", "-m", "venv", "--without-pip", "/opt/streamrnn/venv")
        program = '#!/bin/sh\nexec /opt/streamrnn/venv/bin/python -m streamrnn "$@"\n'
        self.write("/opt/streamrnn/venv/bin/streamrnn", program)
        self.run("chmod", "755", "/opt/streamrnn/venv/bin/streamrnn")
        unit = (HERE.parent / "deploy" / "streamrnn.service").read_text()
        self.write("/etc/systemd/system/streamrnn.service", unit)
        paths = "PYTHONPATH=/opt/streamrnn/source:/opt/streamrnn/packages"
        paths = f"[Service]\nEnvironment={paths} PYTHONDONTWRITEBYTECODE=1\n"
        self.write("/etc/systemd/system/streamrnn.service.d/paths.conf", paths)
        self.write("/etc/streamrnn/mqtt-password", "")
        if self._cache is not None and self._cache.exists():
            self.run("mkdir", "-p", "-m", "700", str(Path(KERNELS).parent), KERNELS)
            shutil.copytree(self._cache, f"/proc/{self.pid}/root{KERNELS}", dirs_exist_ok=True)
        self.systemctl("daemon-reload")
