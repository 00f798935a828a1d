"""What the kernels do, once more in plain Python: slow, obvious, and sharing no line with them."""

from __future__ import annotations

import math

import numpy as np

DECAY = 1.0 - 1.0 / 2000.0


def weighted_sum(numbers):
    """Of numbers from old to new, the newest with weight 1, every older one with DECAY times the next's."""
    return math.fsum(number * DECAY**age for age, number in enumerate(reversed(numbers)))


def weighted_mean(numbers):
    return weighted_sum(numbers) / weighted_sum([1.0] * len(numbers))


def weighted_variance(numbers):
    mean = weighted_mean(numbers)
    return weighted_mean([(number - mean) ** 2 for number in numbers])


def squash(z):
    return math.copysign(math.log(1.0 + abs(z)), z)


def unsquash(s):
    return math.copysign(math.exp(min(abs(s), 12.0)) - 1.0, s)


class ReferenceField:
    """The online normaliser of one field, by the definition of weighted mean and variance over all it learned."""

    def __init__(self):
        self.learned = []
        self.far = []
        self.previous = math.nan

    def statistics(self):
        if not self.learned:
            return 0.0, 0.0, 0.0
        ones = [1.0] * len(self.learned)
        return weighted_mean(self.learned), weighted_variance(self.learned), weighted_sum(ones)

    def observe(self, x):
        """Return s, base and the inputs of one event, then learn from it."""
        mean, variance, count = self.statistics()
        usual = math.sqrt(variance) + 1e-6 * abs(mean)
        if math.isnan(x):
            return math.nan, (mean, usual), (0.0, 0.0, 1.0)
        middle = x if len(self.learned) < 2 else mean
        deviation = max(usual, abs(x - middle) / 1e4)
        base = (middle, deviation)
        s = squash((x - middle) / deviation) if deviation > 0 else 0.0
        self.far.append(abs(x - mean) > 50 * usual)
        lately = sum(0.98**age for age, far in enumerate(reversed(self.far)) if far)
        inputs = (s, 0.0 if math.isnan(self.previous) else s - self.previous, 0.0)
        clipped = mean + min(max(x - mean, -5.0 * usual), 5.0 * usual)
        self.learned.append(clipped if count >= 30 and lately < 3 * 0.98**2 else x)
        self.previous = s
        return s, base, inputs


class ReferenceClock:
    """The inputs made of an event's time."""

    def __init__(self):
        self.last = None
        self.gaps = []

    def observe(self, time):
        value = 0.0
        if self.last is not None:
            gap = min(max(time - self.last, 0.0), 1e9)
            if self.gaps:
                mean = weighted_mean(self.gaps)
                if mean > 0.0:
                    gap = min(gap, 1000.0 * mean)
                    value = math.log((1.0 + gap / mean) / 2.0)
            self.gaps.append(gap)
        self.last = time
        day = 2.0 * math.pi * (time % 86400.0) / 86400.0
        return [f(k * day) for k in (1, 2, 3, 4) for f in (math.sin, math.cos)] + [value]


class ReferenceCalibrator:
    """Forecasts in a dictionary by the event they are for; one q per field and horizon."""

    def __init__(self, fields, horizons, interval):
        self.fields = range(fields)
        self.horizons = horizons
        self.alpha = 1.0 - interval
        self.q = {(f, h): math.log(1.0 / self.alpha) for f in self.fields for h in horizons}
        self.far = [[] for _ in self.fields]
        self.pending = {}

    def settle(self, count, values, scaled):
        """Return residual and log-scale by (field, horizon), and the error by field; absent where there is none."""
        residual, log_scale, error = {}, {}, {}
        for f in self.fields:
            if not math.isnan(scaled[f]):
                self.far[f].append(abs(scaled[f]))
            for h in self.horizons:
                forecast = self.pending.pop((f, h, count), None)
                if forecast is None or math.isnan(values[f]):
                    continue
                residual[f, h] = scaled[f] - forecast["location"]
                log_scale[f, h] = forecast["log_scale"]
                if h == self.horizons[0]:
                    error[f] = values[f] - forecast["forecast"]
                outside = not forecast["lower"] <= values[f] <= forecast["upper"]
                step = 0.1 * (outside - self.alpha)
                if h == 1:  # by a factor, farther ahead by a step
                    self.q[f, h] = max(self.q[f, h] * math.exp(step), 0.01)
                else:
                    self.q[f, h] = max(self.q[f, h] + step / math.sqrt(math.sqrt(h)), 0.01)
        return residual, log_scale, error

    def reach(self, f):
        """How far from the mean the events have been, in scaled units; 5000 events later it counts 1 / e of it."""
        return max((far * 0.9998**age for age, far in enumerate(reversed(self.far[f]))), default=0.0)

    def issue(self, count, location, log_scale, base, ever_seen):
        """Return the forecasts by (field, horizon) after event `count`; absent for a field never seen."""
        made = {}
        for f in self.fields:
            mean, deviation = base[f]
            for h in self.horizons:
                if not ever_seen[f]:
                    continue
                centre, scale = location[f, h], log_scale[f, h]
                if not (math.isfinite(centre) and math.isfinite(scale)):
                    centre, scale = 0.0, 2.0
                width = self.q[f, h] * math.exp(scale)
                end = max(self.reach(f), abs(centre)) + 0.1
                made[f, h] = {
                    "location": centre,
                    "log_scale": scale,
                    "forecast": mean + deviation * unsquash(centre),
                    "lower": mean + deviation * unsquash(max(centre - width, -end)),
                    "upper": mean + deviation * unsquash(min(centre + width, end)),
                }
                self.pending[f, h, count + h] = made[f, h]
        return made


def spread(numbers):
    mean = sum(numbers) / len(numbers)
    return math.log(math.sqrt(sum((number - mean) ** 2 for number in numbers) / len(numbers)) + 0.01)


def inverse_p(shown, value, both):
    """1 / p of `value` by its rank among `shown`; 1 for the first 20."""
    n = len(shown)
    if n < 20:
        return 1.0
    tolerance = 0.01 * (max(shown) - min(shown))
    p = (sum(number >= value - tolerance for number in shown) + 1) / (n + 1)
    if both:
        p = min(p, (sum(number <= value + tolerance for number in shown) + 1) / (n + 1))
    return 1.0 / p


def keep_newest(lists, room):
    for numbers in lists:
        del numbers[:-room]


class ReferenceDetector:
    """Everything a stream has shown in lists; ranks by counting."""

    def __init__(self, fields):
        self.fields = range(fields)
        self.room = 64
        self.shown = [[[] for _ in range(6)] for _ in self.fields]
        self.far = [[] for _ in self.fields]
        self.surprise = [[] for _ in self.fields]
        self.error = [[] for _ in self.fields]
        self.times = [[] for _ in self.fields]
        self.scaled = [[] for _ in self.fields]
        self.together = [[], []]  # surprise and distance of all fields
        self.alert = None

    def score(self, values, scaled, residual, log_scale, error, age, history):
        """Return score, anomaly and loudness of one event: residual and log_scale (F, K), NaN where unknown."""
        if self.room > history or self.room <= age:
            self.room = min(2 * self.room, history)
        opinions = ([], [])
        loudness = []
        for f in self.fields:
            shown = self.shown[f]
            keep_newest(shown, self.room)
            if math.isnan(values[f]):
                loudness.append(0.0)
                for opinion in opinions:
                    opinion += 5 * [1.0]
                continue
            views = self.views(f, values[f], scaled[f], residual[f][-1], log_scale[f][-1], error[f])
            rare = [1.0 if view is None else inverse_p(shown[k], view, both=k != 2) for k, view in enumerate(views)]
            loudness.append(sum(rare))
            opinions[0].extend(rare[:5])
            opinions[1].extend([rare[0], *rare[2:]])
            for k, view in enumerate(views):
                if view is not None:
                    shown[k].append(view)
            keep_newest(shown, self.room)
        means = [np.mean(opinion) for opinion in opinions]
        if len(loudness) > 1:
            together = self.joint(scaled, residual, log_scale)
            means = [(mean + sum(together)) / 3 for mean in means]
        strange = np.mean(np.log10(means)) - 0.75 * math.log10(min(age, self.room) + 2)
        score = 1.0 / (1.0 + 10.0 ** (-2.0 * (strange + 0.1)))
        quiet = self.alert is not None and age - self.alert <= min(max(0.03 * age, 20), 300)
        anomaly = strange >= -0.1 and not quiet
        if strange >= -0.1 and quiet:
            score = min(score, 0.49)
        if anomaly:
            self.alert = age
        return score, anomaly, loudness

    def views(self, f, value, scaled, far, width, error):
        """The six views of field f, None where there is none yet."""
        if not math.isnan(far):
            self.far[f].append(far)
            self.surprise[f].append(abs(far) * math.exp(-width) + width)
        if not math.isnan(error):
            usual = math.sqrt(recent_mean_square(self.error[f]))
            if usual > 0:
                self.times[f].append(error / usual)
            self.error[f].append(error)
        self.scaled[f].append(scaled)
        return [
            value,
            np.mean(self.far[f][-20:]) if self.far[f] else None,
            np.mean(self.surprise[f][-10:]) if self.surprise[f] else None,
            spread(self.scaled[f][-60:]),
            spread(self.scaled[f][-120:]),
            np.mean(self.times[f][-20:]) if self.times[f] else None,
        ]

    def joint(self, scaled, residual, log_scale):
        """1 / p of what all fields say together: how surprising they are, and how far from usual."""
        known = [f for f in self.fields if not math.isnan(residual[f][0])]
        seen = [f for f in self.fields if not math.isnan(scaled[f])]
        views = [
            np.mean([math.log1p(abs(residual[f][0]) / math.exp(log_scale[f][0])) for f in known])
            if known
            else None,
            np.mean([abs(scaled[f]) for f in seen]) if seen else None,
        ]
        keep_newest(self.together, self.room)
        rare = []
        for shown, view in zip(self.together, views, strict=True):
            rare.append(1.0 if view is None else inverse_p(shown, view, both=False))
            if view is not None:
                shown.append(view)
        keep_newest(self.together, self.room)
        return rare


def recent_mean_square(errors):
    """Mean square by weights of .99 per event; 0 of none."""
    if not errors:
        return 0.0
    weights = 0.99 ** np.arange(len(errors))[::-1]
    return np.average(np.square(errors), weights=weights)


def adam(theta, grads, rate, decay):
    """Where Adam arrives after these gradients, in float64: Kingma & Ba 2015, Loshchilov & Hutter 2019."""
    m = np.zeros(len(theta))
    v = np.zeros(len(theta))
    for t, g in enumerate(grads, start=1):
        m = 0.9 * m + 0.1 * g
        v = 0.99 * v + 0.01 * g**2
        m_hat = m / (1 - 0.9**t)
        v_hat = v / (1 - 0.99**t)
        theta = theta - rate * m_hat / (np.sqrt(v_hat) + 1e-8) - rate * decay * theta
    return theta


def tape(network, steps, width=None):
    """Scratch of one window for `sequence`: states, gates, ys, d_ys, d_state, all of them NaN before use."""
    layers, state = network.state.shape
    hidden = int(network.shape[2])
    gates = {0: 1, 1: 1, 2: 4, 3: 4}[int(network.shape[0])] * hidden
    width = network.width if width is None else width
    kind = network.theta.dtype
    return tuple(
        np.full(size, np.nan, kind)
        for size in (
            (steps + 1, layers, state),
            (steps, layers, gates),
            (steps, width),
            (steps, width),
            (layers + 1, state),
        )
    )
