"""The commands. Each is thin: it reads its words, calls what does the work, and shows what came of it.

Results go to stdout, logs to stderr. A user's mistake is one clear line and an exit status, never a traceback.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from streamrnn import config, state_commands
from streamrnn.beside import leave_what_is_behind
from streamrnn.errors import StreamrnnError, UsageError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Recurrent networks that learn from MQTT streams, one event at a time.",
)
app.add_typer(state_commands.app, name="state")
out = Console()
err = Console(stderr=True)

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML configuration.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def main() -> None:
    """Run the command line; the entry point of the package."""
    try:
        app()
    except StreamrnnError as error:
        typer.echo(error, err=True)
        raise SystemExit(error.exit_status) from None
    except OSError as error:  # the standard output is on a full disk, say
        typer.echo(error, err=True)
        raise SystemExit(1) from None


def log_to_stderr(level: int = logging.INFO) -> None:
    """One line per record, with its time in UTC."""
    handler = logging.StreamHandler(sys.stderr)
    formatter = logging.Formatter("%(asctime)sZ %(levelname)-7s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)


@app.command()
def run(
    configs: Annotated[
        list[Path], typer.Argument(metavar="CONFIG...", help="YAML configurations; several run as one.")
    ],
    watch: Annotated[bool, typer.Option("--watch", help="Reload when a configuration is edited.")] = False,
) -> None:
    """Run the daemon: subscribe, answer every event, learn, publish, until SIGTERM or Ctrl-C. SIGHUP reloads.

    Example: streamrnn run config/telemetry.yaml

    Example: streamrnn run --watch hall-1.yaml hall-2.yaml
    """
    from streamrnn.build import merge

    def read() -> config.Config:
        return merge([(str(path), config.load(path)) for path in configs])

    loaded = read()
    log_to_stderr()
    from streamrnn.service import Service
    from streamrnn.serving.reload import watching_files
    from streamrnn.serving.signals import signals
    from streamrnn.systemd import Notifier, supervised

    async def serve() -> None:
        service = Service(loaded, read)
        with signals(service):
            async with (
                supervised(service, Notifier(os.environ)),
                watching_files(configs if watch else (), service.reloader),
            ):
                await service.run()

    run_async(serve())


@app.command()
def demo(
    seconds: Annotated[
        float | None, typer.Option(min=1.0, help="End by itself after so many seconds of events.")
    ] = None,
) -> None:
    """Watch streamrnn learn this computer: its own broker, its own sensor, a live table. Ctrl-C ends it.

    Example: streamrnn demo --seconds 60
    """
    log_to_stderr(logging.WARNING)
    from streamrnn.demo import run_demo

    run_async(run_demo(seconds, out, err))


@app.command()
def replay(
    path: ConfigPath,
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="CSV with a header, or JSON lines; - is stdin.")
    ],
    pipeline: Annotated[
        str | None, typer.Option(metavar="P", help="Which pipeline, when the configuration has several.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Write every output to this .csv or .jsonl file.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**32 - 1, help="Instead of the configuration's seed.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(metavar="K", help="Key of rows without a topic; default: the file's name.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the measures to this file, as JSON.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw a picture of one key to this file, as PNG.")
    ] = None,
    plot_key: Annotated[
        str | None, typer.Option(metavar="K", help="Which key to draw; default: the first one seen.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Run a pipeline over recorded files as fast as it goes, and print how good its forecasts were.

    Example: streamrnn replay config/numbers.yaml readings.csv --output outputs.csv --plot picture.png

    Example: zcat readings.csv.gz | streamrnn replay config/numbers.yaml - --json
    """
    loaded = config.load(path)
    log_to_stderr(logging.WARNING)
    from streamrnn.build import build_pipeline
    from streamrnn.edges.parking import Remembered
    from streamrnn.evaluation import plot as plotting
    from streamrnn.evaluation import replay as replaying
    from streamrnn.evaluation.report import measures_tables
    from streamrnn.evaluation.summary import encode, summarise
    from streamrnn.evaluation.trace import Recorder
    from streamrnn.warm import warm

    name, spec = choose(loaded, pipeline)
    if inputs.count("-") > 1:
        raise UsageError("the standard input (-) can be read once only")
    replaying.check_targets({"--output": output, "--report": report, "--plot": plot}, inputs)
    if plot is not None:
        plotting.require()
    elif plot_key is not None:
        raise UsageError("--plot-key: says which key to draw, but there is no --plot")
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that files begun are tidied away
    chosen_seed = loaded.seed if seed is None else seed
    with ExitStack() as last:
        picture = replaying.open_target(plot, last)
        with ExitStack() as stack:  # the other files are whole also when there is nothing to draw
            sheet = replaying.open_target(report, stack)
            writer = replaying.open_output(output, spec, stack)
            with err.status("compiling kernels, or loading them from the cache"):  # on a terminal only
                warm(spec)
            running = build_pipeline(name, spec, chosen_seed)
            if loaded.state is not None:  # nothing of it is touched
                running.parking = Remembered(spec.limits.parked)
            replayed = replaying.Replay(running, Recorder(plot_key) if picture else None)
            with progress_bar() as progress:
                for each in inputs:
                    rows = replaying.messages(each, spec, running, key)
                    replayed.run(progress.track(rows, total=row_estimate(each), description=each), writer)
            running.close()
            summary = summarise(replayed, name, spec, chosen_seed, inputs)
            if sheet:
                sheet.write(encode(summary))
        if json:
            typer.echo(encode(summary).decode().rstrip("\n"))
        else:
            for table in measures_tables(summary):
                out.print(table)
        if replayed.rows and not summary.events:
            raise StreamrnnError("none of the rows was an event for this pipeline")
        if picture:
            trace = replayed.recorded()
            picture.write(plotting.png(trace, f"{name} · {trace.key}"))


@app.command()
def check(path: ConfigPath, json: AsJson = False) -> None:
    """Validate a configuration; print it with all defaults, its memory and its time. Connects to nothing.

    Example: streamrnn check config/fleet.yaml

    Example: streamrnn check config/fleet.yaml --json | jq .pipelines.fleet.memory_bytes.sum
    """
    loaded = config.load(path)
    from streamrnn.cost import Speed, budget_table, measure_speed
    from streamrnn.documents import check_document, encoded
    from streamrnn.privacy import notices

    speeds: dict[str, Speed] = {}
    if not json:
        out.print(config.resolved(loaded), markup=False, highlight=False, soft_wrap=True)
    for name, spec in loaded.pipelines.items():
        with err.status("compiling kernels, or loading them from the cache"):  # on a terminal only
            speeds[name] = measure_speed(spec)
        if not json:
            out.print(budget_table(name, spec, speeds[name], keeps=loaded.state is not None))
    if json:
        typer.echo(encoded(check_document(loaded, speeds)))
        return
    for notice in notices(loaded):
        out.print(notice, markup=False, highlight=False, soft_wrap=True)


@app.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors and other programs.

    Example: streamrnn schema > streamrnn.schema.json
    """
    typer.echo(msgspec.json.format(msgspec.json.encode(config.schema()), indent=2).decode())


@app.command()
def sense(
    url: Annotated[str, typer.Option(help="Of the MQTT broker.")] = "mqtt://127.0.0.1:1883",
    topic: Annotated[str | None, typer.Option(help="Default: sense/<host name>/telemetry.")] = None,
    rate: Annotated[float, typer.Option(min=0.01, max=100.0, help="Readings a second.")] = 10.0,
    username: Annotated[str | None, typer.Option(help="User name at the broker.")] = None,
    password_file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="File with the password.")
    ] = None,
) -> None:
    """Publish this computer's CPU, memory, disk and network rates over MQTT, until Ctrl-C.

    Example: streamrnn sense --url mqtt://127.0.0.1:1883 --rate 1
    """
    log_to_stderr()
    from streamrnn.sense import run_sense

    run_async(run_sense(url, topic, rate, username, None if password_file is None else str(password_file)))


@app.command()
def sniff(
    url: Annotated[str, typer.Argument(metavar="URL", help="Of the MQTT broker.")],
    topics: Annotated[list[str], typer.Argument(metavar="TOPIC...", help="Topic filters, such as plant/#.")],
    seconds: Annotated[float, typer.Option(min=1.0, help="How long to watch.")] = 30.0,
    username: Annotated[
        str | None, typer.Option(envvar="STREAMRNN_USERNAME", help="User name at the broker.")
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option(envvar="STREAMRNN_PASSWORD_FILE", exists=True, dir_okay=False, help="File with the password."),
    ] = None,
    ca: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Certificates to trust (PEM), with mqtts.")
    ] = None,
    cert: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Our own certificate (PEM).")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="The private key of --cert.")
    ] = None,
) -> None:
    """Watch topics, find streams and measurements in them, and print a configuration ready to run.

    Example: streamrnn sniff mqtt://127.0.0.1:1883 'plant/#' --seconds 60 > plant.yaml
    """
    log_to_stderr()
    from streamrnn.edges.endpoint import Settings
    from streamrnn.sniffing.sniff import sniff as watch

    secret, *pem = (None if path is None else str(path.absolute()) for path in (password_file, ca, cert, key))
    settings = Settings(url, "streamrnn-sniff", username, secret, ca=pem[0], cert=pem[1], key=pem[2])

    async def draft() -> None:
        typer.echo(await watch(settings, topics, seconds), nl=False)

    run_async(draft())


@app.command()
def version(json: AsJson = False) -> None:
    """Print the versions of streamrnn, Python, numba and numpy, and the CPU that kernels are compiled for.

    Example: streamrnn version

    Example: streamrnn version --json
    """
    import platform

    import llvmlite.binding

    from streamrnn.documents import encoded
    from streamrnn.versions import versions

    cpu, machine, cores = llvmlite.binding.get_host_cpu_name(), platform.machine(), os.cpu_count()
    if json:
        typer.echo(encoded({**versions(), "cpu": cpu, "machine": machine, "cores": cores}))
        return
    for name, number in versions().items():
        typer.echo(f"{name} {number}")
    typer.echo(f"cpu {cpu} ({machine}, {cores} cores)")


def run_async(work: Any) -> None:
    """Run a coroutine; of several failures at once show the first that is for the user."""
    try:
        asyncio.run(work)
    except* StreamrnnError as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None
    leave_what_is_behind()  # kernels may be being compiled, and nobody wants them any more


def choose(loaded: config.Config, wanted: str | None) -> tuple[str, Any]:
    """Return the pipeline a command is about."""
    names = ", ".join(loaded.pipelines)
    if wanted is None:
        if len(loaded.pipelines) > 1:
            raise UsageError(f"the configuration has several pipelines ({names}): choose one by --pipeline")
        return next(iter(loaded.pipelines.items()))
    if wanted not in loaded.pipelines:
        raise UsageError(f"--pipeline: no pipeline {wanted!r} in the configuration, which has {names}")
    return wanted, loaded.pipelines[wanted]


def progress_bar() -> Progress:
    """Rows done, and how long it will take; nothing is left of it afterwards, and nothing without a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=err, transient=True, disable=not err.is_terminal)


def row_estimate(path: str) -> int | None:
    """Return the lines of a plain file; None where nobody will see them, or reading would use them up."""
    if not err.is_terminal or not Path(path).is_file() or path.endswith(".gz"):
        return None
    try:
        with open(path, "rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    except OSError:
        return None  # reading it for real will say what is wrong
