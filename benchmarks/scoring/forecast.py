"""How good forecasts and intervals are: mean squared errors, against persistence, and coverage."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
MONTH = 30 * 24  # rows of an hourly set
ETT_ROWS = 20 * MONTH
ETT_TRAIN = slice(0, 4 * MONTH)  # mean and deviation come of these
ETT_SCORED = slice(5 * MONTH, ETT_ROWS)
TINY = 1e-9  # of the mean square of a series: errors below are none


def ett_mse(values: Array, forecast: Array) -> float:
    """Return the one-step MSE on an hourly ETT set by the online protocol of FSNet (Pham et al. 2023).

    values (N, C), forecast (N, C): what was expected at each row of the next. In deviations of the first four
    months, over months six to twenty.
    """
    deviation = values[ETT_TRAIN].std(axis=0)
    error = (before(forecast) - values)[ETT_SCORED] / deviation
    return float((error**2).mean())


def before(array: Array) -> Array:
    """Return the array (N, ...) one event later, NaN first: what was said of each event before it came."""
    late = np.full_like(array, np.nan)
    late[1:] = array[:-1]
    return late


def last_known(values: Array) -> Array:
    """Return the newest value (N,) up to each event which is not NaN; NaN before there is one."""
    known = np.where(np.isnan(values), -1, np.arange(len(values)))
    newest = np.maximum.accumulate(known)
    return np.where(newest >= 0, values[newest], np.nan)


def against_persistence(values: Array, forecast: Array) -> float:
    """Return the one-step MSE divided by that of the last value known; below 1 is better than "as now".

    values (N,) NaN where missing, forecast (N,) what was expected at each event of the next. Where a series cannot
    be forecast better, as a constant, an error of no size (1e-9 of the mean square) is no error.

    Examples
    --------
    >>> against_persistence(np.array([0.0, 2.0, 4.0]), np.array([1.0, 3.0, 5.0])).__round__(3)
    0.25
    """
    ours, naive = before(forecast), before(last_known(values))
    judged = ~np.isnan(values) & ~np.isnan(ours) & ~np.isnan(naive)
    nothing = TINY * float(np.nanmean(values**2)) + 1e-300
    squares = [float(np.mean((values - said)[judged] ** 2)) for said in (ours, naive)]
    return (squares[0] + nothing) / (squares[1] + nothing)


def coverage(values: Array, lower: Array, upper: Array, horizon: int) -> float:
    """Return the share of values (N,) inside the interval (N,), (N,) that was stated `horizon` events before."""
    low, high, seen = lower[:-horizon], upper[:-horizon], values[horizon:]
    judged = ~(np.isnan(low) | np.isnan(seen))
    return float(((low <= seen) & (seen <= high))[judged].mean())
