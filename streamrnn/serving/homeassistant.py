"""What Home Assistant is told of a stream: one device, with an entity for each number worth showing.

The payload of its MQTT device discovery (https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload).
When it is sent, and when it is taken back, stands in `discovery`. No symbol is in it, and no entity shows one: what
is typed is private.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Final

from streamrnn import __version__
from streamrnn.settings.specs import Pipeline as PipelineSpec
from streamrnn.settings.specs import output_topic

ID_CHARACTERS_MAX: Final = 40  # of pipeline and key in an id; the digest tells them apart beyond
_NOT_IN_AN_ID = re.compile(r"[^A-Za-z0-9_-]+")

Entity = dict[str, Any]


def discovery_topic(prefix: str, pipeline: str, key: str, state_topic: str) -> str:
    """Return where the device of a stream is announced. Home Assistant takes letters, digits, _ and - in an id."""
    return f"{prefix}/device/{device_id(pipeline, key, state_topic)}/config"


def device_id(pipeline: str, key: str, state_topic: str) -> str:
    """Return an id of a stream, that no other stream has, here or in another service at the same broker.

    Examples
    --------
    >>> device_id("plant", "hall 2/pump-7", "streamrnn/plant/hall 2/pump-7")
    'streamrnn_plant_hall_2_pump-7_13f641b3'
    """
    readable = _NOT_IN_AN_ID.sub("_", f"{pipeline}_{key}")[:ID_CHARACTERS_MAX]
    return f"streamrnn_{readable}_{hashlib.sha256(state_topic.encode()).hexdigest()[:8]}"


def device(name: str, spec: PipelineSpec, key: str, state_topic: str, availability_topic: str) -> bytes:
    """Return the discovery payload of one stream.

    Parameters
    ----------
    name, spec
        Of the pipeline.
    key
        Of the stream.
    state_topic
        Where its outputs are published.
    availability_topic
        Where it is said whether the service is there: a text that begins with online when it is.
    """
    own = device_id(name, key, state_topic)
    entities = _symbol_entities() if spec.input.symbols else _numeric_entities(spec.input.fields)
    entities |= _diagnostics()
    for part, entity in entities.items():
        entity["unique_id"] = f"{own}_{part}"
    payload = {
        "device": {
            "identifiers": [own],
            "name": f"{key} ({name})",
            "manufacturer": "streamrnn",
            "model": f"{spec.model.cell} {spec.model.hidden}",
            "sw_version": __version__,
        },
        "origin": {"name": "streamrnn", "sw_version": __version__},
        "components": entities,
        "state_topic": state_topic,
        "availability": [
            {
                "topic": availability_topic,
                "value_template": "{{ 'online' if value.startswith('online') else 'offline' }}",
            }
        ],
        "qos": spec.output.qos,
    }
    return json.dumps(payload, ensure_ascii=False).encode()


def is_announced(name: str, spec: PipelineSpec) -> bool:
    """Whether each stream of a pipeline has a topic of its own that an entity could read."""
    return spec.output.topic is not None and output_topic(spec.output.topic, name, "a") != output_topic(
        spec.output.topic, name, "b"
    )


def _numeric_entities(fields: list[str]) -> dict[str, Entity]:
    entities = {
        "score": _sensor(
            "score", '{{ value_json["score"] }}', "mdi:chart-bell-curve", suggested_display_precision=3
        ),
        "problem": {
            "platform": "binary_sensor",
            "name": "anomaly",
            "device_class": "problem",
            "value_template": "{{ 'ON' if value_json[\"anomaly\"] else 'OFF' }}",
        },
    }
    for number, field in enumerate(fields):
        # In a string of Jinja the escapes of JSON mean the same, but for characters beyond 16 bits.
        quoted = json.dumps(field, ensure_ascii=False)
        ahead = f'value_json["forecast"][{quoted}]'
        entities[f"forecast_{number}"] = _sensor(
            f"{field} forecast",
            f"{{{{ {ahead}[0] if {ahead} else None }}}}",
            "mdi:chart-timeline-variant",
            suggested_display_precision=3,
        )
        entities[f"score_{number}"] = _sensor(
            f"{field} score",
            f'{{{{ value_json["score"] if value_json["loudest"] == {quoted} else 0 }}}}',
            "mdi:chart-bell-curve",
            suggested_display_precision=3,
            enabled_by_default=len(fields) > 1,
        )
    return entities


def _symbol_entities() -> dict[str, Entity]:
    return {"bits": _sensor("surprise", '{{ value_json["bits"] }}', "mdi:keyboard", unit_of_measurement="bit")}


def _diagnostics() -> dict[str, Entity]:
    diagnostic = {"entity_category": "diagnostic"}
    return {
        "events": _sensor("events", '{{ value_json["seq"] + 1 }}', "mdi:counter", **diagnostic),
        "updates": _sensor("weight updates", '{{ value_json["updates"] }}', "mdi:school", **diagnostic),
        "latency": _sensor(
            "latency", '{{ value_json["latency_us"] }}', "mdi:timer-outline", unit_of_measurement="µs", **diagnostic
        ),
        "warmup": {
            "platform": "binary_sensor",
            "name": "warm-up",
            "value_template": "{{ 'ON' if value_json[\"warmup\"] else 'OFF' }}",
            **diagnostic,
        },
    }


def _sensor(name: str, template: str, icon: str, **more: Any) -> Entity:
    base = {"platform": "sensor", "name": name, "value_template": template, "icon": icon}
    return base | {"state_class": "measurement"} | more
