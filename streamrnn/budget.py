"""What a pipeline may cost in memory, and how long its histories may be so that it keeps to that."""

from __future__ import annotations

import msgspec
import numpy as np

from streamrnn import parts
from streamrnn.kernels import numeric
from streamrnn.keys import KEY_MAX
from streamrnn.learn.calibrator import Calibrator
from streamrnn.learn.detector import Alarm, Detector
from streamrnn.learn.mixture import Blend, Mixture
from streamrnn.learn.network import Network
from streamrnn.learn.ngram import NGram
from streamrnn.learn.numeric import HISTORY, NumericModel
from streamrnn.learn.readout import Readout
from streamrnn.learn.scaler import Scaler
from streamrnn.learn.symbols import ALPHABET, NGRAM_BYTES, STRIDE
from streamrnn.learn.window import Window
from streamrnn.settings.specs import Pipeline as PipelineSpec

STREAM_OBJECTS = 2048 + 4 * KEY_MAX  # bytes of Python's own objects in a stream, roughly, and of its key
THETA_COPIES = 6  # network, shadow, gradient, two moments, last good weights


class Budget(msgspec.Struct, frozen=True):
    """The ceilings of a pipeline's memory, in bytes, and what was shortened to keep to them."""

    parameters: int  # numbers in the thetas of all networks
    weights: int  # theta, its copies, and the scratch of an update
    history: int  # steps in the replay window
    window: int
    streams: int  # fixed part, all keys
    ranks: int  # histories of the detectors, all keys
    ranks_each: int  # events a detector ranks among when all keys are there
    counts: int = 0  # of the n-gram
    saved: int = 0  # copy of the state for a checkpoint, beside all the others

    @property
    def total(self) -> int:
        """What it takes all the time."""
        return self.weights + self.window + self.streams + self.ranks + self.counts


def budget(spec: PipelineSpec) -> Budget:
    """Return the memory ceilings of a pipeline."""
    network, keys, members = parts.network_of(spec, 0), spec.limits.keys, spec.model.ensemble
    parameters = members * network.theta.size
    weights = _weights_bytes(spec, network)
    history = window_history(spec, network)
    window = _window_bytes(spec, network)
    streams = _stream_bytes(spec, network) * keys
    saved = _learned_bytes(spec, network) + window + streams
    if spec.input.symbols:
        counts = NGram.bytes_for(ALPHABET + 1, ngram_room(spec, network)) if spec.learn.enabled else 0
        return Budget(parameters, weights, history, window, streams, 0, 0, counts, saved + counts)
    fields, detectors = len(spec.input.fields), keys * members
    event_bytes = Detector.bytes_per_event(fields)
    room = ranks_room(spec, network)
    ranks_each = NumericModel.history_for(room, detectors, fields)
    ranks = max(min(HISTORY * event_bytes * detectors, room), Detector.FIRST * event_bytes * detectors)
    return Budget(parameters, weights, history, window, streams, ranks, ranks_each, 0, saved + ranks)


def window_history(spec: PipelineSpec, network: Network) -> int:
    """Steps in the replay window of each network: all that is asked for, or what fits into half of the memory."""
    if not spec.learn.enabled or parts.in_real_time(spec):
        return 0
    fitting = spec.limits.memory_mb * 2**20 // 2 // (_step_bytes(spec, network) * spec.model.ensemble)
    return max(spec.learn.length, min(spec.learn.history, fitting))


def ngram_room(spec: PipelineSpec, network: Network) -> int:
    """Bytes for the counts of the n-gram: what the rest leaves, at the most its usual ceiling."""
    return min(_left(spec, network), NGRAM_BYTES)


def ranks_room(spec: PipelineSpec, network: Network) -> int:
    """Bytes left for the histories of the detectors."""
    return _left(spec, network)


def _left(spec: PipelineSpec, network: Network) -> int:
    """Bytes that weights, windows and streams leave."""
    taken = _weights_bytes(spec, network) + _window_bytes(spec, network)
    return max(spec.limits.memory_mb * 2**20 - taken - _stream_bytes(spec, network) * spec.limits.keys, 0)


def _step_bytes(spec: PipelineSpec, network: Network) -> int:
    inputs = 1 if spec.input.symbols else int(network.shape[1])
    shown = 1 if spec.input.symbols else len(spec.input.fields)
    return Window.bytes_per_step(inputs, shown, network.blank_state(), STRIDE if spec.input.symbols else 1)


def _window_bytes(spec: PipelineSpec, network: Network) -> int:
    return spec.model.ensemble * _step_bytes(spec, network) * window_history(spec, network)


def _weights_bytes(spec: PipelineSpec, network: Network) -> int:
    """Bytes of theta, and when learning of its copies and the scratch of an update, of all networks."""
    scratch = 0
    if parts.in_real_time(spec):
        scratch = parts.real_time_learner_of(spec, network).scratch_bytes
    elif spec.learn.enabled:
        scratch = parts.learner_of(spec, network, spec.learn.length, 0).scratch_bytes
    return _learned_bytes(spec, network) + spec.model.ensemble * scratch


def _learned_bytes(spec: PipelineSpec, network: Network) -> int:
    """Bytes of theta and its copies, of all networks, and of the weights of the mixture of symbols."""
    if not spec.learn.enabled:
        return spec.model.ensemble * network.theta.nbytes
    learned = spec.model.ensemble * THETA_COPIES * network.theta.nbytes
    if spec.input.symbols:
        mixture = Mixture(NGram(ALPHABET + 1, 0), spec.model.hidden)
        learned += mixture.nbytes + mixture.blank_blend().nbytes  # that of answers not learned from
    return learned


def _stream_bytes(spec: PipelineSpec, network: Network) -> int:
    """Bytes that every key costs, beside the histories of its detectors."""
    if spec.input.symbols:
        blend = Blend(NGram(ALPHABET + 1, 0)).nbytes if spec.learn.enabled else 0
        return STREAM_OBJECTS + network.state.nbytes + 4 * (ALPHABET + 1) + blend
    fields, horizons = len(spec.input.fields), spec.forecast.horizons
    calibrator = Calibrator(fields, horizons)
    each = network.state.nbytes + _nbytes(calibrator) + _nbytes(Detector(fields))
    each -= Detector.FIRST * Detector.bytes_per_event(fields)
    if parts.in_real_time(spec):
        each += parts.real_time_learner_of(spec, network).blank_ring().nbytes
    readout = Readout(fields, spec.model.hidden, Scaler.input_count(fields))
    own = _nbytes(Scaler(fields)) + _nbytes(readout) + _nbytes(Alarm())
    own += 8 * fields * (3 * len(horizons) + 1)  # the answer ...
    own += 8 * (numeric.NETWORKS + spec.model.ensemble * numeric.EACH)  # ... and the table of all arrays
    if spec.model.ensemble > 1:
        own += _nbytes(calibrator)
    return STREAM_OBJECTS + own + spec.model.ensemble * each


def _nbytes(part: object) -> int:
    """Bytes of the arrays that `part` holds, views of them left out."""
    arrays = [array for array in vars(part).values() if isinstance(array, np.ndarray)]
    own = {id(array) for array in arrays}
    return sum(array.nbytes for array in arrays if id(array.base) not in own)
