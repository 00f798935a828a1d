"""Between payload bytes and events: one file per payload format, one registry, one Codec.

Nothing here knows MQTT, files or the configuration.
"""

from streamrnn.codecs.codec import Codec, encode
from streamrnn.codecs.registry import PARSERS
from streamrnn.codecs.times import epoch_seconds, is_date

__all__ = ["PARSERS", "Codec", "encode", "epoch_seconds", "is_date"]
