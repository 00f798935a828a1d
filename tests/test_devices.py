"""The configurations for devices, on payloads made from what each device's documentation says it sends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streamrnn import config
from streamrnn.build import build_pipelines
from streamrnn.events import Message
from streamrnn.pipeline import Pipeline

FOLDER = Path(__file__).parents[1] / "config"


class Device:
    """The pipelines of a shipped configuration, given messages as a broker would."""

    def __init__(self, name: str) -> None:
        built: dict[str, Pipeline[Any]] = build_pipelines(config.load(FOLDER / f"{name}.yaml"))
        self.pipelines = {each.removeprefix(f"{name}-"): pipeline for each, pipeline in built.items()}

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None:
        for pipeline in self.pipelines.values():
            pipeline.close()

    def send(self, topic: str, payload: object) -> dict[str, Any]:
        """What each pipeline answers, by its name; one that is not for the topic is not asked."""
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        message = Message(topic, data, qos=1, arrival=1.7e9)
        asked = {name: each for name, each in self.pipelines.items() if each.keys.key(topic) is not None}
        answers = {name: each.process(message) for name, each in asked.items()}
        return {name: answer for name, answer in answers.items() if answer is not None}

    def counts(self, name: str) -> dict[str, int]:
        return dict(self.pipelines[name].counts)


def test_zigbee2mqtt_climate_power_and_buttons() -> None:
    with Device("zigbee2mqtt") as device:
        sensor = {"battery": 91, "humidity": 61.5, "linkquality": 120, "pressure": 1009, "temperature": 22.4}
        got = device.send("zigbee2mqtt/bathroom", sensor)
        assert ["climate"] == list(got)
        assert ("bathroom", 1.7e9) == (got["climate"].key, got["climate"].time)
        assert {"temperature": 22.4, "humidity": 61.5, "pressure": 1009.0} == got["climate"].value
        partial = device.send("zigbee2mqtt/bathroom", {"temperature": 22.5})["climate"]
        assert (1, 22.5, None) == (partial.seq, partial.value["temperature"], partial.value["humidity"])
        plug = device.send("zigbee2mqtt/washer", {"current": 0.7, "energy": 12.1, "power": 161, "state": "ON"})
        assert {"power": 161.0, "current": 0.7} == plug["power"].value
        press = device.send("zigbee2mqtt/remote", {"action": "brightness_step_up", "linkquality": 87})
        assert "brightness_step_up" == press["buttons"].symbol
        for topic, payload in (
            ("zigbee2mqtt/remote", {"battery": 100, "voltage": 3000}),
            ("zigbee2mqtt/bathroom", b"online"),
        ):
            assert {} == device.send(topic, payload)
        for topic in ("zigbee2mqtt/bridge/state", "zigbee2mqtt/bathroom/set", "zigbee2mqtt/bathroom/availability"):
            assert all(each.keys.key(topic) is None for each in device.pipelines.values())


def test_tasmota_finds_a_sensor_whatever_it_is_called() -> None:
    with Device("tasmota") as device:
        bme = {"Temperature": 18.4, "Humidity": 52.1, "DewPoint": 8.4, "Pressure": 1009.8}
        got = device.send("tele/attic/SENSOR", {"Time": "2025-03-01T12:00:00", "BME280": bme, "TempUnit": "C"})
        assert {"*.Temperature": 18.4, "*.Humidity": 52.1, "*.Pressure": 1009.8} == got["climate"].value
        assert ("attic", 1.7e9) == (got["climate"].key, got["climate"].time)
        other = device.send("tele/cellar/SENSOR", {"DS18B20": {"Id": "0000", "Temperature": 9.5}, "TempUnit": "C"})
        assert ("cellar", 9.5) == (other["climate"].key, other["climate"].value["*.Temperature"])
        meter = {
            "TotalStartTime": "2025-01-01T00:00:00",
            "Total": 81.2,
            "Power": 420,
            "Voltage": 231,
            "Current": 1.8,
        }
        plug = device.send("tele/plug/SENSOR", {"Time": "2025-03-01T12:00:00", "ENERGY": meter})
        assert {"ENERGY.Power": 420.0, "ENERGY.Voltage": 231.0, "ENERGY.Current": 1.8} == plug["energy"].value
        remote = {"Device": "0x1A2B", "Temperature": 20.25, "Humidity": 44.1, "Endpoint": 1, "LinkQuality": 90}
        zigbee = device.send("tele/bridge/1A2B/SENSOR", {"ZbReceived": {"0x1A2B": remote}})
        assert ("bridge/1A2B", 20.25) == (zigbee["zigbee"].key, zigbee["zigbee"].value["ZbReceived.*.Temperature"])
        for topic in ("tele/attic/STATE", "tele/attic/LWT", "stat/attic/RESULT", "cmnd/attic/POWER"):
            assert {} == device.send(topic, {"POWER": "ON"})


def test_tasmota_a_sensor_that_failed_does_not_cost_the_others() -> None:
    with Device("tasmota") as device:
        failed = b'{"Time":"2025-03-01T12:00:00","SHT3X":{"Temperature":nan,"Humidity":48.0},"TempUnit":"C"}'
        value = device.send("tele/attic/SENSOR", failed)["climate"].value
        assert (None, 48.0) == (value["*.Temperature"], value["*.Humidity"])
        assert "not_json" not in device.counts("climate")


def test_shelly_notifications_and_status() -> None:
    def notification(ts: float, **components: object) -> dict[str, object]:
        names = {name.replace("_", ":"): value for name, value in components.items()}
        return {"src": "dev", "dst": "dev/events", "method": "NotifyStatus", "params": {"ts": ts, **names}}

    with Device("shelly") as device:
        switch = {"id": 0, "apower": 61.2, "voltage": 230.4, "current": 0.31}
        got = device.send("shellyplus1pm-aa/events/rpc", notification(1740830400.25, switch_0=switch))
        assert ["power"] == list(got)
        assert ("shellyplus1pm-aa", 1740830400.25) == (got["power"].key, got["power"].time)
        assert [61.2, 230.4, 0.31] == list(got["power"].value.values())
        weather = notification(1740830401, temperature_0={"id": 0, "tC": 19.8, "tF": 67.6}, humidity_0={"rh": 42})
        assert [19.8, 42.0] == list(device.send("shellyplusht-bb/events/rpc", weather)["climate"].value.values())
        energy = {"id": 0, "aenergy": {"total": 11.7, "by_minute": [453.1, 0.0, 0.0], "minute_ts": 1740830400}}
        assert {} == device.send("shellyplus1pm-aa/events/rpc", notification(1740830460, switch_0=energy))
        status = {
            "id": 0,
            "output": True,
            "apower": 60.9,
            "voltage": 230.1,
            "current": 0.3,
            "temperature": {"tC": 40},
        }
        channel = device.send("shellyplus1pm-aa/status/switch:0", status)["channels"]
        assert ("shellyplus1pm-aa/switch:0", 60.9) == (channel.key, channel.value["apower"])
        assert {} == device.send("shellyplus1pm-aa/online", b"true")


def test_rtl_433_tells_the_devices_of_one_topic_apart() -> None:
    def event(**fields: object) -> dict[str, object]:
        return {"time": "2025-03-01 12:00:00", "battery_ok": 1, **fields}

    with Device("rtl_433") as device:
        first = event(model="Nexus-TH", id=42, channel=2, temperature_C=20.5, humidity=83)
        got = device.send("rtl_433/attic/events", first)["rtl_433"]
        assert ("Nexus-TH-42-2", [20.5, 83.0]) == (got.key, list(got.value.values()))
        second = event(model="Bresser-3CH", id=7, temperature_C=-3.5)
        assert "Bresser-3CH-7-" == device.send("rtl_433/attic/events", second)["rtl_433"].key
        assert 1 == device.send("rtl_433/attic/events", first)["rtl_433"].seq
        assert {} == device.send("rtl_433/attic/events", event(model="Generic-Remote", id=3, cmd=17))
        assert {} == device.send("rtl_433/attic/events", {"temperature_C": 3.0})
        assert {"no_value": 1, "no_key": 1} == {
            name: count for name, count in device.counts("rtl_433").items() if name.startswith("no_")
        }


@pytest.mark.parametrize("model", ["a/b", "a+b", "#", "a\0b", "a\nb", "$SYS", "\ufffe"])
def test_rtl_433_a_device_cannot_choose_where_it_is_published(model: str) -> None:
    with Device("rtl_433") as device:
        assert {} == device.send("rtl_433/attic/events", {"model": model, "id": 1, "temperature_C": 1.0})
        assert 1 == device.counts("rtl_433")["key_refused"]


def test_evmqtt_learns_which_key_follows() -> None:
    with Device("evmqtt") as device:
        for i in range(300):
            key = f"KEY_{'HELLO'[i % 5]}"
            event = {"key": key, "devicePath": "/dev/input/event3", "deviceName": "USB Keyboard"}
            got = device.send("homeassistant/sensor/evmqtt/usb-keyboard/state", event)["evmqtt"]
            assert ("usb-keyboard", key) == (got.key, got.symbol)
        assert got.bits < 0.5
        assert {} == device.send("homeassistant/sensor/evmqtt/usb-keyboard/switch/state", b"ON")
