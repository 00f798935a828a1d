"""The shipped unit under a real systemd: start, watchdog, crash, a configuration that does not hold, stop."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon import Client
from mosquitto import Mosquitto
from systemd_box import LIMIT_S, Box, obstacle

OBSTACLE = obstacle()
pytestmark = pytest.mark.skipif(OBSTACLE is not None, reason=f"no real systemd can be started: {OBSTACLE}")

CONFIG = """
mqtt: {{url: "{url}"}}
state: /var/lib/streamrnn
pipelines:
  plant: {{input: {{topic: plant/+}}, model: {{hidden: 8}}}}
"""
# The loop is blocked as a bug would do it: by a call on its thread that does not return.
BLOCK = """
import signal, time
signal.signal(signal.SIGUSR1, lambda *_: time.sleep(3600))
"""
WATCHDOG_S = 8


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("mosquitto")) as mosquitto:
        yield mosquitto


@pytest.fixture(scope="module")
def booted(broker: Mosquitto, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """Kernels are compiled at the first start; a box that is made later in a run of several processes has them."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", "")
    with Box(tmp_path_factory.getbasetemp().parent / f"box-cache-{run}" if run else None) as box:
        box.write("/opt/streamrnn/block/sitecustomize.py", BLOCK)
        paths = "/opt/streamrnn/source:/opt/streamrnn/packages:/opt/streamrnn/block"
        more = f"[Service]\nWatchdogSec={WATCHDOG_S}\nEnvironment=PYTHONPATH={paths}\n"
        box.write("/etc/systemd/system/streamrnn.service.d/test.conf", more)
        box.systemctl("daemon-reload")
        yield box


@pytest.fixture
def box(booted: Box, broker: Mosquitto) -> Iterator[Box]:
    """The service, up."""
    booted.write("/etc/streamrnn/streamrnn.yaml", CONFIG.format(url=broker.url))
    booted.systemctl("reset-failed", "streamrnn", check=False)
    booted.systemctl("start", "--no-block", "streamrnn")
    booted.until("ActiveState", "active")
    booted.keep_cache()
    yield booted
    booted.systemctl("stop", "streamrnn", check=False)


def again(box: Box, before: str) -> float:
    """Wait until another process is up and ready; return the seconds it took."""
    began = time.monotonic()
    while not (box.show("MainPID") not in ("0", before) and box.show("ActiveState") == "active"):
        assert time.monotonic() - began < LIMIT_S, box.journal()
        time.sleep(0.1)
    return time.monotonic() - began


def said(box: Box, words: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while words not in box.journal():
        assert time.monotonic() < deadline, box.journal()
        time.sleep(0.2)


def test_it_is_active_when_subscriptions_are_granted_and_says_how_it_goes(box: Box, broker: Mosquitto) -> None:
    with Client(broker.port, "streamrnn/plant/#") as client:
        client.publish("plant/pump", '{"value": 1}')  # nobody waited: active is ready
        assert client.outputs(1)[0]["key"] == "pump"
    deadline = time.monotonic() + LIMIT_S
    while not box.show("StatusText").startswith("1 events"):
        assert time.monotonic() < deadline, box.show("StatusText")
        time.sleep(0.2)


def test_a_killed_service_is_back_with_what_it_had(box: Box, broker: Mosquitto) -> None:
    with Client(broker.port, "streamrnn/plant/#") as client:
        client.publish("plant/tank", '{"value": 1}')
        assert client.outputs(1)[0]["seq"] == 0
        before = box.show("MainPID")
        box.kill(signal.SIGKILL)
        print(f"back {again(box, before):.1f} s after kill -9")
        client.publish("plant/tank", '{"value": 2}')
        # What the broker may not have had is sent again, so the first may come twice.
        got = client.until(lambda got: json.loads(got[-1].payload)["seq"] > 0)
        assert {0, 1} == {json.loads(each.payload)["seq"] for each in got}


def test_it_is_reloaded_and_a_bad_file_changes_nothing(box: Box, broker: Mosquitto) -> None:
    before = box.show("MainPID")
    more = CONFIG + "  hall: {{input: {{topic: hall/+}}, model: {{hidden: 8}}}}\n"
    box.write("/etc/streamrnn/streamrnn.yaml", more.format(url=broker.url))
    box.systemctl("reload", "streamrnn")
    said(box, "reload: done")
    box.write("/etc/streamrnn/streamrnn.yaml", "pipelines: {plant: {input: {topik: plant/+}}}")
    box.systemctl("reload", "streamrnn")
    said(box, "reload: nothing is changed")
    with Client(broker.port, "streamrnn/hall/#") as client:
        client.publish("hall/lamp", '{"value": 1}')
        assert client.outputs(1)[0]["seq"] == 0
    assert (before, "active") == (box.show("MainPID"), box.show("ActiveState"))


@pytest.mark.parametrize("how", [signal.SIGUSR1, signal.SIGSTOP])
def test_one_that_hangs_is_ended_by_the_watchdog(box: Box, how: signal.Signals) -> None:
    before = box.show("MainPID")
    time.sleep(WATCHDOG_S)  # it is heard of in between
    assert before == box.show("MainPID")
    box.kill(how)
    print(f"back {again(box, before):.1f} s after {how.name}, watchdog {WATCHDOG_S} s")
    assert "Watchdog timeout" in box.journal()


def test_a_configuration_that_does_not_hold_is_not_started_again_and_again(box: Box) -> None:
    box.systemctl("stop", "streamrnn")
    box.write("/etc/streamrnn/streamrnn.yaml", "pipelines: {plant: {input: {topik: plant/+}}}")
    box.systemctl("start", "streamrnn", check=False)
    time.sleep(5)  # more than RestartSec
    assert ("failed", "78", "0") == (box.show("ActiveState"), box.show("ExecMainStatus"), box.show("NRestarts"))
    assert "topik" in box.journal()


def test_a_stop_ends_well_and_leaves_a_checkpoint(box: Box, broker: Mosquitto) -> None:
    with Client(broker.port, "streamrnn/plant/#") as client:
        client.publish("plant/last", '{"value": 1}')
        client.wait_for(1)
    box.systemctl("stop", "streamrnn")
    assert ("inactive", "success", "0") == (box.show("ActiveState"), box.show("Result"), box.show("ExecMainStatus"))
    assert "checkpoint" in box.run("find", "/var/lib/private/streamrnn")


def test_the_unit_is_hardened(box: Box) -> None:
    told = box.run("systemd-analyze", "security", "--no-pager", "streamrnn.service", check=False)
    exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", told)
    assert exposure is not None, told
    assert float(exposure[1]) <= 1.0
    assert 0o700 == int(box.run("stat", "-c", "%a", "/var/lib/private/streamrnn"), 8)


def test_what_runs_in_the_box_changes_nothing_outside(booted: Box, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("kept")
    booted.run("mkdir", "-p", str(tmp_path))
    booted.run("cp", "/etc/hostname", str(kept))
    booted.run("touch", "/etc/streamrnn-was-here", "/tmp/streamrnn-was-here")
    assert "kept" == kept.read_text()
    assert not Path("/etc/streamrnn-was-here").exists()
    assert not Path("/tmp/streamrnn-was-here").exists()
