"""Eight numbers side by side, as a vector register holds them: for loops whose sums are to stay in registers.

The compiler finds vectors in plain loops by itself, but not sums that a loop around them goes on with: these it
would load and store each time. Here they are variables. Where registers are narrower, several hold the lanes.

Arrays are contiguous, of any dimensions. Places in them are counted flat, and nobody checks them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

WIDTH: Final = 8

# Of two vectors of 16 lanes in all: neighbours take turns, so that in the end a lane holds the sum of one vector.
FOLDS: Final = (
    ([0, 8, 1, 9, 4, 12, 5, 13], [2, 10, 3, 11, 6, 14, 7, 15]),
    ([0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15]),
    ([0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]),
)


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function of kernels out of one that gives its type, and what generates its code."""
    return cast(Callable[..., Any], intrinsic(function))


class Lanes(types.Type):
    """The type of WIDTH numbers of one kind."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"Lanes({dtype})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Lanes) -> None:
        vector = ir.VectorType(manager.lookup(kind.dtype).get_value_type(), WIDTH)
        super().__init__(manager, kind, vector)  # type: ignore[no-untyped-call]


@_compiled
def load(_: Any, array: Any, index: Any) -> Any:  # noqa: ARG001
    """The lanes that begin at a flat index of an array."""
    lanes = _lanes_of(array)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_place(context, builder, signature, args), align=lanes.dtype.bitwidth // 8)

    return lanes(array, types.intp), generate


@_compiled
def store(_: Any, array: Any, index: Any, value: Any) -> Any:  # noqa: ARG001
    """Write lanes to an array, from a flat index on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _place(context, builder, signature, args), align=value.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, _lanes_of(array)), generate


@_compiled
def splat(_: Any, number: Any) -> Any:
    """One number in every lane."""
    lanes = Lanes(number)

    def generate(context: Any, builder: Any, _: Any, args: Any) -> Any:
        blank = ir.Constant(context.get_value_type(lanes), ir.Undefined)
        first = builder.insert_element(blank, args[0], ir.Constant(ir.IntType(32), 0))
        return _shuffle(builder, first, blank, [0] * WIDTH)

    return lanes(number), generate


@_compiled
def muladd(_: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a b + c, rounded once where the machine can."""

    def generate(context: Any, builder: Any, _: Any, args: Any) -> Any:
        vector = context.get_value_type(a)
        name = f"llvm.fmuladd.v{WIDTH}f{a.dtype.bitwidth}"
        kind = ir.FunctionType(vector, [vector] * 3)
        function = cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]
        return builder.call(function, args)

    return a(a, b, c), generate


@_compiled
def plus(_: Any, a: Any, b: Any) -> Any:
    """Return a + b."""

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        return builder.fadd(*args)

    return a(a, b), generate


@_compiled
def times(_: Any, a: Any, b: Any) -> Any:
    """Return a b."""

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        return builder.fmul(*args)

    return a(a, b), generate


@_compiled
def total(_: Any, a: Any) -> Any:
    """The sum of all lanes."""

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        sums = args[0]
        for distance in (4, 2, 1):
            others = [(i + distance) % WIDTH for i in range(WIDTH)]
            sums = builder.fadd(sums, _shuffle(builder, sums, sums, others))
        return builder.extract_element(sums, ir.Constant(ir.IntType(32), 0))

    return a.dtype(a), generate


@_compiled
def totals(_: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any) -> Any:
    """The sum of all lanes of each, side by side."""

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        sums = list(args)
        for low, high in FOLDS:
            pairs = zip(sums[::2], sums[1::2], strict=True)
            sums = [builder.fadd(_shuffle(builder, *pair, low), _shuffle(builder, *pair, high)) for pair in pairs]
        return sums[0]

    return a(a, b, c, d, e, f, g, h), generate


def _lanes_of(array: Any) -> Lanes:
    if not isinstance(array, types.Array) or array.layout != "C":
        raise TypeError(f"expected a contiguous array, got {array}")
    return Lanes(array.dtype)


def _place(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    """Where the lanes at args[1] of the array args[0] begin."""
    array = signature.args[0]
    data = context.make_array(array)(context, builder, args[0]).data
    return builder.bitcast(builder.gep(data, [args[1]]), context.get_value_type(_lanes_of(array)).as_pointer())


def _shuffle(builder: Any, a: Any, b: Any, places: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), places))
