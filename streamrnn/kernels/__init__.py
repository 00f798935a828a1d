"""The numerical core: functions over arrays, compiled by Numba. No I/O, no logging, no Python objects."""
