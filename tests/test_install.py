"""deploy/install.sh below another root: twice, with a configuration of one's own, and away again."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "deploy" / "install.sh"


def install(prefix: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHON": "/usr/bin/python3"} | environment
    environment = dict(os.environ) | environment | {"PREFIX": str(prefix)}
    return subprocess.run([SCRIPT, *words], env=environment, capture_output=True, text=True, check=False)


def test_it_installs_twice_keeps_what_the_user_wrote_and_goes_away(tmp_path: Path) -> None:
    first = install(tmp_path)
    assert first.returncode == 0, first.stderr
    assert "installed streamrnn" in first.stdout
    configuration = tmp_path / "etc/streamrnn/streamrnn.yaml"
    password = tmp_path / "etc/streamrnn/mqtt-password"
    units = tmp_path / "etc/systemd/system"
    assert 0o600 == password.stat().st_mode & 0o777
    assert {"streamrnn.service", "streamrnn@.service"} == {each.name for each in units.iterdir()}
    mine = "pipelines: {plant: {input: {topic: plant/+}}}\n"
    configuration.write_text(mine)
    password.write_text("secret")
    again = install(tmp_path)
    assert again.returncode == 0, again.stderr
    assert (mine, "secret") == (configuration.read_text(), password.read_text())
    for folder in ("cache/private/streamrnn", "cache/private/streamrnn-hall", "lib/private/streamrnn-hall/journal"):
        (tmp_path / "var" / folder).mkdir(parents=True)
    other = tmp_path / "var/lib/private/streamrnner"
    other.mkdir()
    gone = install(tmp_path, "uninstall")
    assert gone.returncode == 0, gone.stderr
    assert not list((tmp_path / "var/cache/private").iterdir())
    assert (tmp_path / "var/lib/private/streamrnn-hall/journal").exists()
    assert not list(units.iterdir())
    assert not (tmp_path / "opt/streamrnn").exists()
    assert mine == configuration.read_text()
    assert install(tmp_path, "purge").returncode == 0
    assert not configuration.parent.exists()
    assert [other] == list((tmp_path / "var/lib/private").iterdir())


def test_a_wrong_word_or_no_python_is_one_clear_line(tmp_path: Path) -> None:
    usage = install(tmp_path, "remove")
    assert (1, "streamrnn: usage: install.sh [uninstall | purge]\n") == (usage.returncode, usage.stderr)
    old = install(tmp_path, PYTHON="/bin/false")
    assert old.returncode == 1
    assert old.stderr.startswith("streamrnn: Python 3.11 or newer is needed")
    assert not list(tmp_path.iterdir())


def test_the_two_units_differ_in_names_only() -> None:
    one = (ROOT / "deploy/streamrnn.service").read_text()
    many = (ROOT / "deploy/streamrnn@.service").read_text()
    named = {
        "Description=streamrnn %i:": "Description=streamrnn:",
        "/%i.yaml": "/streamrnn.yaml",
        "/%i.environment": "/environment",
        "Directory=streamrnn-%i": "Directory=streamrnn",
    }
    for its, plain in named.items():
        many = many.replace(its, plain)
    assert one == many[many.index("[Unit]") :]


def test_no_instance_keeps_anything_inside_the_folders_of_another_unit() -> None:
    kept = {
        unit: re.findall(r"^(?:State|Cache)Directory=(.+)$", (ROOT / "deploy" / unit).read_text(), re.MULTILINE)
        for unit in ("streamrnn.service", "streamrnn@.service")
    }
    assert {"streamrnn.service": ["streamrnn"] * 2, "streamrnn@.service": ["streamrnn-%i"] * 2} == kept
