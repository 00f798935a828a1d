"""The command `demo`: a broker of its own, this computer as the sensor, the real service, and a live table.

Everything but the table is what a plant would run: messages go through MQTT both ways.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import time
from collections import deque
from collections.abc import Coroutine

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from streamrnn import config
from streamrnn.beside import leave_what_is_behind
from streamrnn.edges.broker import Broker
from streamrnn.edges.mqtt import Connection, Settings
from streamrnn.evaluation.measures import Measures
from streamrnn.events import Message, NumericOutput
from streamrnn.service import Service
from streamrnn.telemetry import FIELDS, publish_telemetry

RATE_HZ = 10.0
LATENCIES = 10_000  # newest kept for the median and p99

CONFIG = """
mqtt: {{url: "{url}", client_id: streamrnn-demo}}
pipelines:
  demo:
    input: {{topic: sense/+/telemetry, fields: [{fields}], time: time}}
"""


class Board:
    """What the demo shows: the last output, measures so far, latencies."""

    def __init__(self) -> None:
        self.measures = Measures()
        self.last: NumericOutput | None = None
        self.latencies_us: deque[float] = deque(maxlen=LATENCIES)
        self._decode = msgspec.json.Decoder(NumericOutput).decode

    def take(self, message: Message) -> bool:
        """Take an output as it comes back from the broker."""
        output = self._decode(message.payload)  # type: ignore[arg-type]
        self.measures.add(output)
        self.last = output
        if isinstance(output.latency_us, float):
            self.latencies_us.append(output.latency_us)
        return True

    def latency(self, quantile: float) -> float:
        """Return a quantile of the latencies, in microseconds; 0 before the first."""
        ordered = sorted(self.latencies_us)
        return ordered[int(quantile * (len(ordered) - 1))] if ordered else 0.0

    def status(self) -> str:
        """Return the line under the table."""
        last = self.last
        if last is None:
            return "waiting for the first event"
        return (
            f"{self.measures.events} events · {last.updates} weight updates · score {last.score:.3f}"
            f"{' ANOMALY in ' + str(last.loudest) if last.anomaly else ''} · {self.measures.alerts} alerts · "
            f"latency median {self.latency(0.5) / 1000:.2f} ms, p99 {self.latency(0.99) / 1000:.2f} ms"
            f"{' · warming up' if last.warmup else ''}"
        )

    def table(self) -> Group:
        """Return the live table: each field's value, what comes next, and how well that went so far."""
        table = Table("field", "value", "next", "90 % interval", "mean error", "of persistence")
        for column in table.columns[1:]:
            column.justify = "right"
        last = self.last
        for field in FIELDS:
            if last is None or field not in self.measures.fields:
                table.add_row(field, "", "", "", "", "")
                continue
            forecast, lower, upper = last.forecast[field], last.lower[field], last.upper[field]
            judged = self.measures.fields[field]
            table.add_row(
                field,
                brief(last.value[field]),
                brief(forecast[0] if forecast else None),
                f"{brief(lower[0] if lower else None)} .. {brief(upper[0] if upper else None)}",
                brief(judged.mae(0)),
                "" if judged.skill(0) != judged.skill(0) else f"{1 - judged.skill(0):.0%}",
            )
        return Group(table, Text(self.status()))

    def summary(self) -> Table:
        """Return what the demo ends with."""
        table = Table(
            "field", "mean error", "of persistence", "coverage", title="One step ahead", title_justify="left"
        )
        for field, judged in self.measures.fields.items():
            ratio = 1 - judged.skill(0)
            words = "nothing to forecast" if ratio != ratio else f"{ratio:.1%}"
            table.add_row(field, brief(judged.mae(0)), words, f"{judged.coverage(0):.1%}")
        return table


def brief(number: float | None) -> str:
    """Return a number in a few characters, thousands as k, M, G."""
    if number is None or math.isnan(number):
        return "-"
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= 10 * limit:
            return f"{number / limit:.1f}{unit}"
    return f"{round(number, 3) + 0.0:.5g}"  # + 0.0: no minus before a zero


async def run_demo(seconds: float | None, out: Console, err: Console) -> None:
    """Run the demo for some seconds of events, or until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    board = Board()
    async with Broker() as broker, asyncio.TaskGroup() as group:
        service = Service(config.loads(CONFIG.format(url=broker.url, fields=", ".join(FIELDS)), "demo"))
        served = group.create_task(service.run(), name="service")
        err.print("Compiling kernels, or loading them from the cache ...")
        if await first_of(service.ready.wait(), stop.wait(), served):
            await watch(board, broker.url, stop, seconds, out)
        service.stop()
        leave_what_is_behind()  # the broker ends with us; whoever compiles lets the loop turn only now and then
    if board.measures.events:
        out.print(board.summary())
    out.print(board.status())


async def watch(board: Board, url: str, stop: asyncio.Event, seconds: float | None, out: Console) -> None:
    """Sense, and show what the service makes of it, until `stop` or for some seconds."""
    viewer = Settings(url, f"streamrnn-demo-viewer-{os.getpid()}", clean_session=True)
    sensor = Settings(url, f"streamrnn-demo-sensor-{os.getpid()}", clean_session=True)
    async with (
        Connection(viewer, [("streamrnn/demo/#", 1)], board.take) as viewing,
        Connection(sensor, (), lambda _: True) as sensing,
    ):
        await viewing.subscribed()
        await sensing.subscribed()
        sense = asyncio.create_task(
            publish_telemetry(sensing, "sense/this-computer/telemetry", RATE_HZ, stop), name="sense"
        )
        end = time.monotonic() + seconds if seconds is not None else float("inf")
        await (show_live if out.is_terminal else show_lines)(board, stop, end, out)
        stop.set()
        await sense
        await sensing.settled()


async def show_live(board: Board, stop: asyncio.Event, end: float, out: Console) -> None:
    """Redraw the table a few times a second."""
    with Live(board.table(), console=out, refresh_per_second=5, transient=True) as live:
        while not stop.is_set() and time.monotonic() < end:
            live.update(board.table())
            await pause(stop, 0.2)


async def show_lines(board: Board, stop: asyncio.Event, end: float, out: Console) -> None:
    """Print a line a second, for logs and pipes."""
    while not stop.is_set() and time.monotonic() < end:
        await pause(stop, min(1.0, max(0.0, end - time.monotonic())))
        out.print(board.status(), soft_wrap=True)


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Sleep, or wake up when it is time to stop."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


async def first_of(
    ready: Coroutine[None, None, bool],
    stopped: Coroutine[None, None, bool],
    served: asyncio.Task[None],
) -> bool:
    """Wait for readiness, a stop or the end of the service; True for readiness."""
    waits = [asyncio.create_task(ready), asyncio.create_task(stopped)]
    await asyncio.wait([*waits, served], return_when=asyncio.FIRST_COMPLETED)
    was_ready = waits[0].done()
    for wait in waits:
        wait.cancel()
    return was_ready and not served.done()
