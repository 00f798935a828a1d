"""What can go wrong by a user's hand. Every one of these is shown as its message, never as a traceback."""

from __future__ import annotations


class StreamrnnError(Exception):
    """A mistake or fault the user can act on; `exit_status` is what a command ends with."""

    exit_status = 1


class UsageError(StreamrnnError):
    """A command was called with words that do not fit together."""

    exit_status = 2


class ConfigError(StreamrnnError):
    """A configuration does not hold: every mistake in it, one line each.

    Parameters
    ----------
    problems
        Lines of the form ``file:line: path: what was expected, got value``.
    """

    exit_status = 78

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class StateError(StreamrnnError):
    """The state directory cannot be used, or what is in it is not what it should be."""


class BrokerError(StreamrnnError):
    """The MQTT broker cannot be reached or refuses us."""

    exit_status = 69


class CredentialsError(BrokerError):
    """A file that the configuration names for the connection cannot be read, or is not what it should be."""

    exit_status = ConfigError.exit_status


class InputFileError(StreamrnnError):
    """A recorded file cannot be read as a table of events."""


class PayloadError(StreamrnnError):
    """A message that is not an event: it is counted by `reason` and let go.

    Parameters
    ----------
    reason
        A short fixed word for the counter, such as ``not_json``.
    detail
        What was seen, for the log (never the whole payload).
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
