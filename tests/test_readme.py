"""What README promises a newcomer: from a clone to forecasts of one's own sensor, by the commands it prints."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from daemon import LIMIT_S, Client
from mosquitto import Mosquitto

from streamrnn import config

TOP = Path(__file__).parents[1]
README = (TOP / "README.md").read_text(encoding="utf-8")
PATH_SECTION = README.partition("## Your first pipeline in five minutes\n")[2].partition("That is all.")[0]
COMMANDS = re.findall(r"```sh\n(.*?)```", PATH_SECTION, re.DOTALL)
CONFIGS = re.findall(r"```yaml\n(.*?)```", PATH_SECTION, re.DOTALL)


def test_the_path_has_three_commands_and_one_configuration() -> None:
    assert [1, 1, 1] == [len(each.strip().splitlines()) for each in COMMANDS]
    assert len(CONFIGS) == 1
    assert ["mine"] == list(config.loads(CONFIGS[0]).pipelines)


def test_the_first_command_clones_and_sets_up(tmp_path: Path) -> None:
    """What it clones has all it needs to set up; what setting up does is done for these tests as well."""
    clone, install = COMMANDS[0].strip().rsplit(" && ", 1)
    subprocess.run(
        ["bash", "-ec", clone.replace("<this repository>", str(TOP)) + " && pwd"], cwd=tmp_path, check=True
    )
    assert install == "make install"
    run = subprocess.run(
        ["make", "--dry-run", "install"], cwd=tmp_path / "streamrnn", capture_output=True, text=True, check=True
    )
    steps = run.stdout.splitlines()
    assert "sh deploy/setup-dev.sh venv" in steps
    assert "sh deploy/setup-dev.sh mosquitto" in steps


def test_the_other_commands_bring_forecasts_of_the_sensor(mosquitto: Mosquitto, tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(CONFIGS[0])
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    environment = {**os.environ, "BROKER": mosquitto.url}
    with (
        Client(mosquitto.port) as sensor,
        open(tmp_path / "run.log", "wb") as log,
        open(tmp_path / "heard", "wb") as heard,
    ):
        run, listen = (
            subprocess.Popen(
                ["bash", "-c", command + "\nwait"],
                cwd=tmp_path,
                env=environment,
                stdout=out,
                stderr=log,
                start_new_session=True,
            )
            for command, out in zip(COMMANDS[1:], (log, heard), strict=True)
        )
        try:
            deadline = time.monotonic() + LIMIT_S
            forecasts: list[dict[str, object]] = []
            while len(forecasts) < 3:
                assert time.monotonic() < deadline, (tmp_path / "run.log").read_text()
                sensor.publish("home/kitchen/climate", json.dumps({"temperature": 21.5, "humidity": 48}))
                time.sleep(0.1)
                lines = (tmp_path / "heard").read_text().splitlines()
                forecasts = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        finally:
            for process in (run, listen):
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(LIMIT_S)
    assert {"mine"} == {each["pipeline"] for each in forecasts}
    assert forecasts[-1]["key"] == "kitchen"
    assert {"temperature", "humidity"} == set(forecasts[-1]["forecast"])  # type: ignore[call-overload]


def test_every_page_that_readme_links_to_is_there() -> None:
    links = {link.partition("#")[0] for link in re.findall(r"\]\(([^):]+)\)", README)}
    assert len(links) > 10
    assert [] == [link for link in links if link and not (TOP / link).exists()]
