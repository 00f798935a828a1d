"""Fingerprint: whether the saved state of a pipeline can be gone on from after the configuration was edited."""

from __future__ import annotations

import hashlib

import msgspec

from streamrnn import parts
from streamrnn.budget import ngram_room, window_history
from streamrnn.learn.ngram import NGram
from streamrnn.settings.specs import Pipeline as PipelineSpec

FORMAT = 3  # of what the parts of a pipeline save


def fingerprint(name: str, spec: PipelineSpec, seed: int) -> str:
    """Return a digest of all that gives the saved state of a pipeline its meaning.

    What is not in it may change from one start to the next: topics and times, the rate of learning and the size of
    a batch, intervals, limits of the queue, and where outputs go.
    """
    network = parts.network_of(spec, 0)
    meaning = {
        "format": FORMAT,
        "pipeline": name,
        "seed": seed,
        "fields": spec.input.fields,
        "symbol": spec.input.symbol,  # of a text there is neither
        "model": spec.model,
        "horizons": spec.forecast.horizons,
        "learns": spec.learn.enabled,
        "window": window_history(spec, network),
        "buckets": NGram.buckets_for(ngram_room(spec, network)) if spec.input.symbols else 0,
    }
    return hashlib.sha256(msgspec.json.encode(meaning, order="sorted")).hexdigest()
