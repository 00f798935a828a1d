"""The parts of `bench.py`: each measures some rows of its table, ours beside their peers."""
