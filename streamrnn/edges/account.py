"""How far one pipeline is along the journal, and what a restart would need of it."""

from __future__ import annotations

import zlib

from streamrnn.events import Message


class Account:
    """One pipeline's place in the journal. Numbers are those of messages in it.

    Parameters
    ----------
    pipeline
        Its name.
    fingerprint
        Of what gives its saved state a meaning.

    Attributes
    ----------
    position
        The first message it is not done with; those below are processed, or were not for it.
    count
        Messages it is done with.
    noted
        Messages for it that are in the journal, those it is done with among them.
    chain
        CRC 32 carried on over the payloads processed: two runs with the same count and chain saw the same.
    sent
        The outputs of all messages below are with the broker.
    saved, older
        (position, count) of its two newest checkpoints; a position of -1 for none, a count of -1 for not known.
    """

    def __init__(self, pipeline: str, fingerprint: str) -> None:
        self.pipeline = pipeline
        self.fingerprint = fingerprint
        self.position = 0
        self.count = 0
        self.noted = 0
        self.chain = 0
        self.sent = 0
        self.saved = (-1, -1)
        self.older = (-1, -1)

    @property
    def behind(self) -> int:
        """Messages it is done with since its newest checkpoint: what a restart processes again."""
        return self.count - max(self.saved[1], 0)

    def done(self, number: int, message: Message | None) -> None:
        """A message has been processed, or left out (None)."""
        if message is not None:
            self.chain = zlib.crc32(message.raw, self.chain)
        self.count += 1
        self.position = number + 1

    def checkpointed(self, position: int, count: int) -> None:
        """A checkpoint made when it was done with `count` messages is on the disk."""
        self.older = self.saved if self.saved[0] >= 0 else (position, count)
        self.saved = (position, count)

    def go_on(self, position: int, waiting: int) -> None:
        """Be done with what is below `position`, with `waiting` messages to come; a new checkpoint is due."""
        self.position = position
        self.sent = max(self.sent, position)
        self.noted = self.count + waiting
        self.saved = (-1, self.saved[1])

    def needed(self, following: int) -> int:
        """Return the first message of the journal a restart may need; `following` is the next to come.

        Both generations of checkpoints count: the newest may turn out damaged. A pipeline to which nothing came
        since needs nothing, or it would hold the journal of the others for ever.
        """
        position, count = self.older
        return following if self.noted == count else position
