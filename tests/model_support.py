"""A numeric model with its streams, shown rows of numbers, and all it keeps."""

import numpy as np

from streamrnn.events import Event
from streamrnn.learn.learner import Learner
from streamrnn.learn.member import Member
from streamrnn.learn.numeric import NumericModel
from streamrnn.learn.realtime import RealTimeLearner

HORIZONS = (1, 3, 8)
READOUT = (
    *("last", "changes", "recent", "averages", "features", "guess"),
    *("covariance", "weights", "experts", "losses"),
)
CALIBRATOR = ("q", "reach", "waiting")
DETECTOR = ("recent", "kept", "errors", "shown", "rings", "ordered")


def member_of(fields, cell="gru", learn=True, seed=0, hidden=8, every=4):
    """A network for so many fields with what teaches it."""
    network = NumericModel.network_for(fields, HORIZONS, cell, hidden, 1, seed)
    if not learn:
        return Member(network, None)
    if cell == "lru":
        return Member(network, RealTimeLearner(network, fields, HORIZONS, every, rate=0.01))
    window = NumericModel.window_for(500, network, fields, HORIZONS, seed)
    return Member(network, Learner(network, window, every, windows=3, length=12, rate=0.01))


def model_of(fields=("a", "b"), seeds=(0,), memory=10**9, interval=0.9, **settings):
    """A model of one network for each seed."""
    members = [member_of(len(fields), seed=seed, **settings) for seed in seeds]
    return NumericModel("pump", fields, members, HORIZONS, interval, memory)


class Driver:
    """A model with its streams, shown rows of numbers, (F,), in order."""

    def __init__(self, **settings):
        self.model = model_of(**settings)
        self.streams = {}
        self.now = 1.7e9

    def show(self, row, key="k", learn=True):
        self.now += 10.0
        if key not in self.streams:
            self.streams[key] = self.model.open_stream(key)
            self.model.share(self.streams.values())
        event = Event(key, self.now, np.array(row, np.float64))
        return self.model.process_one(self.streams[key], event, learn)

    def show_all(self, rows, **settings):
        outputs = [self.show(row, **settings) for row in rows]
        self.model.close()
        return outputs

    @property
    def network(self):
        """The only one."""
        return self.model.members[0].network

    def memory(self):
        """Every array that later outputs depend on."""
        arrays = {}
        for key, stream in self.streams.items():
            owners = {
                "scaler": (stream.scaler, ("stats", "previous", "clock")),
                "calibrator": (stream.calibrator, CALIBRATOR),
                "readout": (stream.readout, READOUT),
                "alarm": (stream.alarm, ("alert",)),
            }
            for n, part in enumerate(stream.parts):
                owners |= {
                    f"{n}": (part, ("state",)),
                    f"{n}.calibrator": (part.calibrator, CALIBRATOR),
                    f"{n}.detector": (part.detector, DETECTOR),
                }
                arrays[f"{key}.{n}.place"] = np.array([getattr(part.trail, "last_step", -1)])
                arrays[f"{key}.{n}.ring"] = part.trail.ring if part.trail else np.zeros(0)
            for name, (owner, names) in owners.items():
                arrays |= {f"{key}.{name}.{each}": getattr(owner, each) for each in names}
            arrays[f"{key}.count"] = np.array([stream.count])
        for n, member in enumerate(self.model.members):
            arrays |= {f"{n}.{name}": array for name, array in weights_of(member).items()}
        return {name: array.copy() for name, array in arrays.items()}


def weights_of(member):
    """Every array of a network and of what teaches it."""
    arrays, learner = {"theta": member.network.theta}, member.learner
    if isinstance(learner, Learner) and learner._job is not None:
        learner._job.exception()  # waits for the update under way
    if learner:
        arrays |= {name: getattr(learner, name) for name in ("shadow", "mean", "square", "good")}
        arrays["steps"] = np.array([learner.updates, learner.steps, learner._events])
    if isinstance(learner, RealTimeLearner):
        arrays["known"] = np.array([learner._known, learner._losses])
        arrays["_grad"] = learner._grad
    elif learner:
        window = learner.window
        arrays |= {name: getattr(window, name) for name in ("xs", "seen", "states", "links", "random")}
        arrays["count"] = np.array([window.count])
    return arrays


def rows_of(count, seed=0, fields=2, missing=0.0):
    rng = np.random.default_rng(seed)
    rows = np.sin(np.arange(count)[:, None] / 4.0 + np.arange(fields)) * 5.0 + rng.normal(
        20.0, 0.3, (count, fields)
    )
    rows[rng.random(rows.shape) < missing] = np.nan
    return rows


def numbers_in(output):
    """Every number of an output, however deep."""
    groups = (output.value, output.error, output.forecast, output.lower, output.upper)
    parts = [part for group in groups for part in group.values()]
    flat = [number for part in parts for number in (part if isinstance(part, list) else [part])]
    return [number for number in flat if number is not None] + [output.score, output.time]


def as_seen(output, *but):
    """An output as a dictionary, without some of its fields."""
    return {name: getattr(output, name) for name in output.__struct_fields__ if name not in but}
