"""The readout once more: lists, whole matrices and sums over all the past; sharing no line with the kernels."""

from __future__ import annotations

import math

import numpy as np


def weighted(numbers, window):
    """Weighted sum of numbers from old to new and the sum of the weights, 1 - 1 / window to the power of age."""
    decay = 1.0 - 1.0 / window
    weights = [decay**age for age in reversed(range(len(numbers)))]
    return math.fsum(w * number for w, number in zip(weights, numbers, strict=True)), math.fsum(weights)


def weighted_mean(numbers, window):
    newest = numbers[-1]  # by distances from it, the mean of equal numbers is that number
    total, weight = weighted([number - newest for number in numbers], window)
    return newest + total / weight


def clip(number, bound):
    return min(max(number, -bound), bound)


class ReferenceField:
    """What one field has shown: its values with their event numbers, and the changes its unit was made of."""

    def __init__(self):
        self.values = []  # (number of the event, value)
        self.changes = []  # as clipped

    def last(self):
        return self.values[-1][1] if self.values else math.nan

    def unit(self):
        return math.sqrt(weighted_mean([change**2 for change in self.changes], 100)) if self.changes else 0.0

    def change(self, size):
        """Take in a change: after 30 no more than 10 units, unless a million."""
        count = weighted(self.changes, 100)[1]
        if count >= 30 and size < 1e6 * self.unit():
            size = min(size, 10 * self.unit())
        self.changes.append(size)

    def deviation(self):
        numbers = [value for _, value in self.values]
        mean = weighted_mean(numbers, 50)
        return math.sqrt(weighted_mean([(number - mean) ** 2 for number in numbers], 50))

    def average(self, span):
        """Each event has a share of 1 / span, while they are fewer of one over their number; the first the rest."""
        left, away = 1.0, 0.0
        for n, value in reversed(self.values[1:]):
            share = left / min(span, n + 1)
            away += share * (value - self.last())
            left -= share
        return self.last() + away + left * (self.values[0][1] - self.last())

    def distances(self):
        """From the averages over 4, 32 and 256 events, in deviations of late."""
        deviation = self.deviation()
        if deviation == 0.0:
            return [0.0] * 3
        return [clip((self.last() - self.average(span)) / deviation, 6.0) for span in (4, 32, 256)]


class ReferenceRegression:
    """Recursive least squares by the textbook (Haykin 2014, table 10.1), the whole matrix P at a time."""

    def __init__(self, fields, features):
        self.P = 0.3 * np.eye(features)
        self.weights = np.zeros((fields, features))
        self.features = np.zeros(features)
        self.guess = np.zeros(fields)
        self.gain = np.zeros(features)

    def shrink(self):
        x = self.features
        self.gain = self.P @ x / (0.9995 + x @ self.P @ x)
        self.P = (self.P - np.outer(self.gain, x @ self.P)) / 0.9995 + 1e-9 * np.eye(len(x))
        self.P *= min(1.0, 0.3 * len(x) / np.trace(self.P))

    def learn(self, f, target):
        self.weights[f] += self.gain * clip(clip(target, 8.0) - self.guess[f], 4.0)

    def forecast(self, features):
        self.features = features
        self.guess = np.clip(self.weights @ features, -8.0, 8.0)


class ReferenceReadout:
    """The three experts and their mixture, each field's errors in lists."""

    def __init__(self, fields, hidden, inputs):
        self.read = min(hidden, 64)
        self.fields = [ReferenceField() for _ in range(fields)]
        self.regression = ReferenceRegression(fields, self.read + inputs + 3 * fields + 1)
        self.experts = np.full((3, fields), np.nan)
        self.errors = [[] for _ in range(fields)]  # of the three experts, squared

    def learn(self, values, fixed=False):
        if not fixed:
            self.regression.shrink()
        for f, (field, value) in enumerate(zip(self.fields, values, strict=True)):
            errors = [(expert - value) ** 2 for expert in self.experts[:, f]]
            if not np.isnan(errors).any():
                self.errors[f].append(errors)
            change = value - field.last()
            if math.isnan(change):
                continue
            if field.unit() > 0 and not fixed:
                self.regression.learn(f, change / field.unit())
            field.change(abs(change))

    def losses(self):
        """(3, F)."""
        return np.array([[weighted([e[i] for e in errors], 500)[0] for errors in self.errors] for i in range(3)])

    def level(self, f):
        return weighted_mean([sum(errors) / 3 for errors in self.errors[f]], 1000) if self.errors[f] else 0.0

    def forecast(self, values, network, hidden, phi, count):
        """Return the mixture, (F,)."""
        features = [*hidden[: self.read], *phi]
        for field, value in zip(self.fields, values, strict=True):
            if math.isnan(value):
                features += [0.0] * 3
            else:
                field.values.append((count, value))
                features += field.distances()
        self.regression.forecast(np.array([*features, 1.0], np.float64))
        for f, field in enumerate(self.fields):
            ahead = field.last() + self.regression.guess[f] * field.unit()
            self.experts[:, f] = network[f], ahead, field.last()
        losses, answer = self.losses(), []
        for f in range(len(self.fields)):
            level = self.level(f)
            weights = np.exp(-0.05 * (losses[:, f] - losses[:, f].min()) / level) if level > 0 else np.ones(3)
            answer.append(np.average(self.experts[:, f], weights=weights))
        return np.array(answer)
