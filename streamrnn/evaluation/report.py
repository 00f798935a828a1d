"""The measures of a replay as tables for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table

from streamrnn.evaluation.summary import HorizonSummary, Summary


def measures_tables(summary: Summary) -> Iterator[Table]:
    """Yield the prequential measures of a replay: one table of all, one per field."""
    yield _summary_table(summary)
    if summary.numbers:
        tables = [_field_table(field, horizons) for field, horizons in summary.numbers.fields.items()]
        if tables:
            tables[-1].caption = "skill: 1 - MAE / MAE of persistence; vs day: of the value a day before"
        yield from tables


def _summary_table(summary: Summary) -> Table:
    table = Table("measure", "value", title=f"{summary.pipeline}: prequential measures", title_justify="left")
    rows: list[tuple[str, str]] = [
        ("rows", f"{summary.rows}"),
        ("events", f"{summary.events}"),
        ("of them in warm-up", f"{summary.warmup_events}"),
        ("keys", f"{summary.keys}"),
    ]
    if summary.numbers:
        numbers = summary.numbers
        rows.append(("alerts", f"{numbers.alerts}"))
        rows.append((f"inside their {numbers.interval:.4g} interval", shown(numbers.coverage, ".1%")))
    if summary.symbols:
        rows.append(("bits per symbol", shown(summary.symbols.bits_per_symbol, ".4f")))
        rows.append(("likeliest was right", shown(summary.symbols.top1, ".2%")))
        rows.append(("among the five likeliest", shown(summary.symbols.top5, ".2%")))
    if summary.learning:
        rows.append(("weight updates", f"{summary.learning.updates}"))
        rows.append(("updates dropped", f"{summary.learning.dropped}"))
        rows.append(("roll-backs", f"{summary.learning.rollbacks}"))
        rows.append(("updates waited for", f"{summary.learning.waits}"))
    rows.append(("microseconds per event", shown(summary.microseconds_per_event, ".1f")))
    rows += [(reason, f"{count}") for reason, count in summary.counts.items()]
    for row in rows:
        table.add_row(*row)
    table.caption = "measured on all events, warm-up too"
    return table


def _field_table(field: str, horizons: Sequence[HorizonSummary]) -> Table:
    table = Table(title=field, title_justify="left")
    for name in ("ahead", "judged", "MAE", "RMSE", "skill", "vs day", "coverage", "width"):
        table.add_column(name)
    for of in horizons:
        table.add_row(
            f"{of.horizon}",
            f"{of.forecasts}",
            shown(of.mae, ".5g"),
            shown(of.rmse, ".5g"),
            shown(of.skill, "+.3f"),
            shown(of.seasonal_skill, "+.3f"),
            shown(of.coverage, ".1%"),
            shown(of.mean_width, ".5g"),
        )
    return table


def shown(number: float | None, form: str) -> str:
    """Return a number in a form, a dash for none."""
    return "-" if number is None else format(number, form)
