"""Recorded events through a pipeline, and how good it was: measures, tables, pictures."""
