"""Readout: the one-step forecast of a stream by three experts: its network, its own regression, its last value."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from streamrnn.kernels import hedge, regression
from streamrnn.kernels.regression import SPANS
from streamrnn.kernels.types import Floats
from streamrnn.learn.moving import Moving

Array = NDArray[np.float64]

NETWORK, REGRESSION, LAST = 0, 1, 2  # the experts


class Readout(Moving):
    """A regression on top of a network, and the mixture of both with persistence.

    The network is shared by all keys of a pipeline; this is what one key learns for itself, from its first events.

    Parameters
    ----------
    fields, hidden, inputs
        Number of fields F, of hidden units the network's head reads, and of its inputs.

    Attributes
    ----------
    units
        Hidden units it reads.
    ahead : (F,)
        The last one-step forecast in the field's unit, NaN for a field never seen.
    experts : (3, F)
        What network, regression and persistence say.
    losses : (3, F)
        Exponentially weighted sums of their squared errors.
    """

    SAVED: ClassVar[tuple[str, ...]] = (
        "last",
        "changes",
        "recent",
        "averages",
        "features",
        "guess",
        "covariance",
        "weights",
        "experts",
        "losses",
    )

    HIDDEN_MAX = 64  # units the regression reads; each one more makes an event dearer by all the others

    def __init__(self, fields: int, hidden: int, inputs: int) -> None:
        super().__init__()
        self.units = min(hidden, self.HIDDEN_MAX)
        features = self.units + inputs + fields * SPANS + 1
        self.last: Array = np.full(fields, np.nan)
        self.changes: Array = np.zeros((fields, 2))
        self.recent: Array = np.zeros((fields, 3))
        self.averages: Array = np.full((fields, SPANS), np.nan)
        self.features: Array = np.zeros(features)
        self.guess: Array = np.zeros(fields)
        self.covariance: Array = self._prior(features)
        self.gain: Array = np.zeros(features)
        self.weights: Array = np.zeros((fields, features))
        self.experts: Array = np.full((3, fields), np.nan)
        self.losses: Array = np.zeros((3, fields))
        self.ahead: Array = np.full(fields, np.nan)

    @staticmethod
    def _prior(features: int) -> Array:
        """The lower triangle of PRIOR times the identity, row by row."""
        return regression.PRIOR * np.eye(features)[np.tril_indices(features)]

    @property
    def arrays(self) -> tuple[Array, ...]:
        """What an event needs of it, in the order of `kernels.numeric`."""
        learned = (self.last, self.changes, self.recent, self.averages, self.features, self.guess)
        return *learned, self.covariance, self.gain, self.weights, self.experts, self.losses, self.ahead

    def learn_one(self, values: Array, fixed: bool = False) -> None:
        """Hold values (F,), NaN where missing, against the experts; unless `fixed` learn the change that came."""
        hedge.judge(values, self.experts, self.losses)
        if not fixed:
            regression.shrink(self.covariance, self.features, self.gain)
        regression.learn(values, self.last, self.changes, self.guess, self.gain, self.weights, fixed)

    def forecast_one(
        self,
        values: Array,
        network: Array,
        hidden: Floats,
        phi: Floats,
        count: int,
        learn: bool = True,
    ) -> Array:
        """Forecast the event after values (F,).

        Parameters
        ----------
        values
            The event, NaN where missing.
        network
            (F,) the network's one-step forecast, in the field's unit.
        hidden, phi
            (H,), (I,) state of the network's last layer after the event, and the inputs of it.
        count
            Events of the stream before this one.
        learn
            False: as if the event had not been; the forecast is given all the same.

        Returns
        -------
        Array
            (F,), valid until the next.
        """
        ahead, hidden = self.ahead, hidden[: self.units]
        if learn:
            last, recent, averages = self.last, self.recent, self.averages
            features, guess, experts = self.features, self.guess, self.experts
        else:  # what waits for the next event stays as it is
            last = np.where(np.isnan(values), self.last, values)
            recent, averages = self.recent.copy(), self.averages.copy()
            features, guess, experts = self.features.copy(), self.guess.copy(), self.experts.copy()
        regression.describe(hidden, phi, values, count, recent, averages, features)
        regression.forecast(self.weights, features, last, self.changes, guess, experts[REGRESSION])
        experts[NETWORK] = network
        experts[LAST] = last
        hedge.mix(experts, self.losses, ahead)
        return ahead
