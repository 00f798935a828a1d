"""Event times as devices write them, to epoch seconds. Not a calendar: no local zones, no leap seconds."""

from __future__ import annotations

from datetime import UTC, datetime

from streamrnn.codecs.number import decimal

EPOCH_SECONDS_MAX = 253_402_300_800  # the end of the year 9999
DATES_FROM = 315_532_800  # the year 1980


def epoch_seconds(value: object) -> float | None:
    """The time a value means, in epoch seconds (UTC), or None when it is no time in the years 1970 to 9999.

    Parameters
    ----------
    value
        A number, or a text which spells one: seconds, or milliseconds from 1e11, microseconds from 1e14 and
        nanoseconds from 1e17 on. Any other text: a date-time by RFC 3339 or ISO 8601, a blank in place of the
        T allowed, in UTC if it names no zone.

    Examples
    --------
    >>> epoch_seconds(1_700_000_000_250)
    1700000000.25
    >>> epoch_seconds("2023-11-14T23:13:20+01:00")
    1700000000.0
    """
    seconds = _of_text(value.strip()) if isinstance(value, str) else _of_number(value)
    return seconds if seconds is not None and 0 <= seconds < EPOCH_SECONDS_MAX else None


def _of_number(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < EPOCH_SECONDS_MAX * 10**9:
        return None
    # Python divides one integer by another without a rounding in between, which nanoseconds need.
    if value >= 1e17:
        return value / 10**9
    if value >= 1e14:
        return value / 10**6
    return value / 10**3 if value >= 1e11 else float(value)


def is_date(time: float) -> bool:
    """Whether a time, in epoch seconds, is of a calendar, from 1980 on.

    An earlier one is the number of a row in a recording without times, or is from a clock that was never set.

    Examples
    --------
    >>> is_date(1_700_000_000.25), is_date(4711.0)
    (True, False)
    """
    return time >= DATES_FROM


def _of_text(text: str) -> float | None:
    if text[4:5] != "-":  # else it begins with a year, and no number needs trying
        try:
            # As an integer where it is one: a recorded row then has the very time the live payload had.
            return _of_number(
                int(text) if text.isascii() and text.isdecimal() and len(text) < 40 else decimal(text)
            )
        except ValueError:
            pass
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
