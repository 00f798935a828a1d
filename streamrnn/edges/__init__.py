"""Where pipelines meet the world: MQTT, files, the demo's broker."""
