"""The state of objects as named arrays, and back: what a checkpoint holds. It knows neither files nor pipelines.

A class says in `SAVED` which of its attributes are its state: arrays, numbers, parts with a state of their own,
tuples of such parts, lists of text. What may have another length than in a fresh object is also in `GROWS`, with
the dimension of it; such a class may have a method `disagreement`, which says why what was restored does not go
together, or None: kernels do not check their indices. What grows without being copied is the beginning of an array
in `rooms`, by its name; of such room only what was written to takes memory. The rest is made anew from the
configuration, or scratch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from streamrnn.errors import StateError

Arrays = dict[str, NDArray[Any]]
Leaf = tuple[str, Sequence[Any], Sequence[Any], str]  # name, values, owners, attribute


class Part(Protocol):
    """What has a state."""

    SAVED: ClassVar[tuple[str, ...]]


def save(part: Part, prefix: str = "") -> Arrays:
    """Return copies of a part's state by name, `prefix` first."""
    return {name: _array(values[0]).copy() for name, values, *_ in _leaves([part], prefix)}


def restore(part: Part, arrays: Mapping[str, NDArray[Any]], prefix: str = "") -> None:
    """Give a fresh part the state that `save` returned for one made alike.

    Arrays are written in place where others may hold them.

    Raises
    ------
    StateError
        An array is missing, or is none that such a part can have.
    """
    leaves = list(_leaves([part], prefix))
    for name, values, owners, attribute in leaves:
        if name not in arrays:
            raise StateError(f"{name}: missing")
        _place(name, values[0], owners[0], attribute, arrays[name])
    _refuse_disagreements(leaves)


def save_all(parts: Sequence[Part], prefix: str = "") -> Arrays:
    """Return the states of parts made alike, each attribute of all of them in one array.

    Where they differ in shape it is flat, and ``<name>:shapes`` (N, dimensions) tells them apart. A thousand
    streams have as many arrays as one.
    """
    arrays: Arrays = {}
    for name, values, *_ in _leaves(parts, prefix):
        column = values if isinstance(values[0], np.ndarray) else [_array(value) for value in values]
        shape = column[0].shape
        if not all(value.shape == shape for value in column):
            arrays[name] = np.concatenate(column, axis=None)
            arrays[name + ":shapes"] = np.array([value.shape for value in column], dtype=np.int64)
        elif shape:  # of a thousand small arrays, np.stack would take three times as long
            arrays[name] = np.concatenate(column).reshape(len(column), *shape)
        else:
            arrays[name] = np.array(values)
    return arrays


def restore_all(parts: Sequence[Part], arrays: Mapping[str, NDArray[Any]], prefix: str = "") -> None:
    """Give fresh parts the states that `save_all` returned.

    Raises
    ------
    StateError
        As `restore`.
    """
    leaves = list(_leaves(parts, prefix))
    for name, values, owners, attribute in leaves:
        for owner, value, array in zip(owners, values, _split(name, arrays, len(parts)), strict=True):
            _place(name, value, owner, attribute, array)
    _refuse_disagreements(leaves)


def split_all(arrays: Mapping[str, NDArray[Any]], count: int, prefix: str = "") -> list[Arrays]:
    """Return what `save_all` returned for `count` parts, of each by itself and without the prefix.

    Raises
    ------
    StateError
        Arrays do not have so many parts.
    """
    found: list[Arrays] = [{} for _ in range(count)]
    for name in arrays:
        if name.startswith(prefix) and not name.endswith(":shapes"):
            for each, array in zip(found, _split(name, arrays, count), strict=True):
                each[name.removeprefix(prefix)] = array
    return found


def encode_text(texts: Sequence[str]) -> NDArray[np.uint8]:
    """Return texts as an array of bytes."""
    return np.frombuffer(json.dumps(list(texts)).encode(), np.uint8)


def decode_text(name: str, array: NDArray[Any]) -> list[str]:
    """Return the texts in such an array, or raise a StateError by its name."""
    if array.dtype != np.uint8 or array.ndim != 1:
        raise StateError(f"{name}: not texts")
    try:
        texts = json.loads(array.tobytes())
    except ValueError as error:
        raise StateError(f"{name}: not texts") from error
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise StateError(f"{name}: not texts")
    return texts


def _leaves(parts: Sequence[Part], prefix: str) -> Iterator[Leaf]:
    """Name, values, owners and attribute of all that is an array in the end, of parts that are made alike."""
    if not parts:
        return
    for attribute in parts[0].SAVED:
        values = [getattr(part, attribute) for part in parts]
        first, name = values[0], prefix + attribute
        if isinstance(first, np.ndarray):  # most are: to ask one for what it does not have is slow
            yield name, values, parts, attribute
        elif first is None:  # a part that this configuration does without
            continue
        elif hasattr(first, "SAVED"):
            yield from _leaves(values, name + ".")
        elif isinstance(first, tuple) or (isinstance(first, list) and first and hasattr(first[0], "SAVED")):
            for number in range(len(first)):
                yield from _leaves([value[number] for value in values], f"{name}.{number}.")
        else:
            yield name, values, parts, attribute


def _array(value: Any) -> NDArray[Any]:
    return encode_text(value) if isinstance(value, list) else np.asarray(value)


def _place(name: str, value: Any, owner: Part, attribute: str, saved: NDArray[Any]) -> None:
    if isinstance(value, list):
        setattr(owner, attribute, decode_text(name, saved))
        return
    fresh = np.asarray(value)
    grows = getattr(owner, "GROWS", {}).get(attribute)
    if saved.dtype != fresh.dtype or not _fits(saved.shape, fresh.shape, grows):
        raise StateError(f"{name}: expected {fresh.dtype} {fresh.shape}, got {saved.dtype} {saved.shape}")
    if not isinstance(value, np.ndarray):
        setattr(owner, attribute, saved.item())
    elif saved.shape == fresh.shape:
        value[...] = saved
    elif (room := getattr(owner, "rooms", {}).get(attribute)) is not None:
        if len(saved) > len(room):
            raise StateError(f"{name}: expected at most {len(room)} rows, got {len(saved)}")
        room[: len(saved)] = saved
        setattr(owner, attribute, room[: len(saved)])
    else:
        setattr(owner, attribute, saved.copy())


def _refuse_disagreements(leaves: Sequence[Leaf]) -> None:
    """Raise a StateError when arrays that fit each by itself do not fit together."""
    for prefix, owners in {name.removesuffix(attribute): owners for name, _, owners, attribute in leaves}.items():
        if hasattr(owners[0], "disagreement"):
            for owner in owners:
                if (why := owner.disagreement()) is not None:
                    raise StateError(prefix + why)


def _fits(saved: tuple[int, ...], fresh: tuple[int, ...], grows: int | None) -> bool:
    """Whether what was saved has the shape of what is fresh, its length in dimension `grows` left aside."""
    if grows is None or len(saved) != len(fresh):
        return saved == fresh
    return saved == (*fresh[:grows], saved[grows], *fresh[grows + 1 :])


def _split(name: str, arrays: Mapping[str, NDArray[Any]], count: int) -> Sequence[NDArray[Any]]:
    """The arrays of each of `count` parts out of that of all of them."""
    shapes = arrays.get(name + ":shapes")
    if name not in arrays:
        raise StateError(f"{name}: missing")
    array = arrays[name]
    if shapes is None:
        if array.ndim < 1 or len(array) != count:
            raise StateError(f"{name}: expected {count} parts, got shape {array.shape}")
        return list(array)
    sound = shapes.dtype == np.int64 and shapes.ndim == 2 and len(shapes) == count and array.ndim == 1
    if not sound or (shapes < 0).any():
        raise StateError(f"{name}: expected the shapes of {count} parts")
    sizes = shapes.prod(axis=1)
    if sizes.sum() != array.size:
        raise StateError(f"{name}: expected {sizes.sum()} numbers, got {array.size}")
    ends = np.cumsum(sizes)
    return [array[end - size : end].reshape(shape) for end, size, shape in zip(ends, sizes, shapes, strict=True)]
