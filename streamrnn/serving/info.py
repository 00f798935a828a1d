"""Info: what a service is, retained on `streamrnn/bridge/info` for whoever comes to the broker later."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec

from streamrnn.build import INFO_TOPIC
from streamrnn.edges.mqtt import Connection
from streamrnn.serving.health import Watched
from streamrnn.serving.lane import Lane
from streamrnn.settings.specs import Pipeline as PipelineSpec
from streamrnn.versions import versions

TICK_S: Final = 1.0


class Info:
    """Keeps what is retained true: it looks once a second, and publishes at a connect and what has changed.

    Parameters
    ----------
    watched
        The service. Its pipelines may be others at every look.
    """

    def __init__(self, watched: Watched) -> None:
        self.watched = watched

    async def run(self, connection: Connection, connected: asyncio.Event) -> None:
        """Publish until cancelled."""
        said: tuple[int, bytes] | None = None
        while True:
            await connected.wait()
            # At every connect: a broker that was restarted may have forgotten what it retained.
            now = connection.counts["connects"], msgspec.json.encode(self.document())
            if now != said:
                said = now
                connection.publish(INFO_TOPIC, now[1], 1, retain=True)
            await asyncio.sleep(TICK_S)

    def document(self) -> dict[str, Any]:
        """Return what is published: of each pipeline, what goes in and out, its model, and whether it learns."""
        config = self.watched.config
        return {
            "version": versions()["streamrnn"],
            "control": config.mqtt.control,
            "pipelines": {
                lane.pipeline.name: _pipeline(lane, config.pipelines[lane.pipeline.name])
                for lane in self.watched.lanes
                if lane.pipeline.name in config.pipelines
            },
        }


def _pipeline(lane: Lane, spec: PipelineSpec) -> dict[str, Any]:
    events: dict[str, Any] = {"symbols": True} if spec.input.symbols else {"fields": spec.input.fields}
    if not spec.input.symbols:
        events["horizons"] = spec.forecast.horizons
    model = {name: getattr(spec.model, name) for name in ("cell", "hidden", "layers", "ensemble")}
    learning = lane.pipeline.learning
    return {"topics": spec.input.topic, "output": spec.output.topic, **events, "model": model, "learning": learning}
