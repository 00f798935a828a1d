"""streamrnn: recurrent networks that learn from MQTT streams, one event at a time."""

__version__ = "0.1.0"
