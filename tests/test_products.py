"""Products and activations against numpy in float64."""

import math

import numpy as np
import pytest

from streamrnn.kernels import products

each_precision = pytest.mark.parametrize("kind", [np.float32, np.float64])
each_size = pytest.mark.parametrize(
    ("rows", "columns"), [(0, 0), (0, 3), (3, 0), (1, 1), (2, 3), (7, 5), (33, 31), (96, 32), (128, 129)]
)


def operands(rows, columns, kind):
    rng = np.random.default_rng([rows, columns])
    sizes = ((rows, columns), (rows,), (columns,), (rows,), (rows, columns))
    return [rng.normal(size=size).astype(kind) for size in sizes]


def assert_rounded(actual, expected, kind, terms):
    """Equal but for the rounding of sums of so many terms of order 1."""
    assert actual.dtype == kind
    bound = 4.0 * np.finfo(kind).eps * (terms + 4.0)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=bound)


@each_precision
@each_size
def test_affine_is_the_product_and_the_bias(kind, rows, columns):
    weight, bias, x, _, _ = operands(rows, columns, kind)
    out = np.full(rows, np.nan, kind)

    products.affine(weight, bias, x, out)

    assert_rounded(out, weight.astype(float) @ x.astype(float) + bias, kind, columns)


@each_precision
@each_size
def test_affine_transposed_is_affine_of_the_transpose(kind, rows, columns):
    weight, bias, x, _, _ = operands(rows, columns, kind)
    out = np.full(rows + 2, 5.0, kind)

    products.affine_transposed(weight.T.copy(), bias, x, out)

    assert_rounded(out[:rows], weight.astype(float) @ x.astype(float) + bias, kind, columns)
    np.testing.assert_array_equal(out[rows:], 5.0)


@each_precision
@each_size
def test_add_affine_transposed_adds_to_the_first_of_out(kind, rows, columns):
    weight, bias, x, d, _ = operands(rows, columns, kind)
    out = np.concatenate([d, np.full(2, 5.0, kind)])

    products.add_affine_transposed(weight.T.copy(), bias, x, out)

    assert_rounded(out[:rows], d + weight.astype(float) @ x.astype(float) + bias, kind, columns)
    np.testing.assert_array_equal(out[rows:], 5.0)


@each_precision
@each_size
def test_add_product_adds_to_the_first_of_out(kind, rows, columns):
    weight, _, x, d, _ = operands(rows, columns, kind)
    out = np.concatenate([d, np.full(2, 5.0, kind)])

    products.add_product(weight, x, out)

    assert_rounded(out[:rows], d + weight.astype(float) @ x.astype(float), kind, columns)
    np.testing.assert_array_equal(out[rows:], 5.0)


@each_precision
@pytest.mark.parametrize(("column", "width"), [(0, 0), (0, 31), (3, 8), (5, 26), (30, 1)])
def test_add_part_is_the_product_of_some_columns(kind, column, width):
    weight, _, x, d, _ = operands(33, 31, kind)
    out = d.copy()

    padded = np.concatenate([np.full(3, np.nan, kind), x])

    products.add_part(weight, column, width, padded, 3, out)

    part = weight[:, column : column + width].astype(float) @ x[:width].astype(float)
    assert_rounded(out, d + part, kind, width)


@each_precision
@each_size
def test_add_transposed_adds_the_product_with_the_transpose(kind, rows, columns):
    weight, _, x, d, _ = operands(rows, columns, kind)
    out = x.copy()

    products.add_transposed(weight, d, out)

    assert_rounded(out, x + weight.T.astype(float) @ d.astype(float), kind, rows)


@each_precision
@each_size
def test_add_outer_adds_the_outer_product(kind, rows, columns):
    _, _, x, d, out = operands(rows, columns, kind)
    expected = out.astype(float) + np.outer(d.astype(float), x.astype(float))

    products.add_outer(d, x, out)

    assert_rounded(out, expected, kind, 2)


@each_precision
@pytest.mark.parametrize("size", [0, 1, 7, 130])
def test_add_adds(kind, size):
    x, out = np.random.default_rng(size).normal(size=(2, size)).astype(kind)
    expected = x + out

    products.add(x, out)

    np.testing.assert_array_equal(out, expected)


@each_precision
@pytest.mark.parametrize("steps", [0, 1, 6])
@pytest.mark.parametrize(
    ("rows", "columns", "column", "width"), [(1, 1, 0, 1), (5, 9, 1, 7), (4, 80, 3, 74), (7, 40, 0, 40)]
)
def test_add_outers_adds_the_outer_products_of_all_steps(kind, rows, columns, column, width, steps):
    rng = np.random.default_rng([rows, steps])
    xs, ds = rng.normal(size=(steps, rows + 2)).astype(kind), rng.normal(size=(steps, width + 3)).astype(kind)
    out = rng.normal(size=(rows, columns)).astype(kind)
    expected = out.astype(float)
    expected[:, column : column + width] += xs[:, 1:-1].T.astype(float) @ ds[:, 3:].astype(float)

    products.add_outers(xs.ravel(), 1, rows + 2, ds.ravel(), 3, width + 3, steps, out, column, width)

    assert_rounded(out, expected, kind, steps)


@each_precision
@pytest.mark.parametrize("steps", [0, 1, 6])
def test_add_sums_adds_all_steps(kind, steps):
    ds = np.random.default_rng(steps).normal(size=(steps, 9)).astype(kind)
    out = np.ones(5, kind)

    products.add_sums(ds.ravel(), 2, 9, steps, out)

    assert_rounded(out, 1.0 + ds[:, 2:7].sum(axis=0, dtype=float), kind, steps)


@each_precision
def test_a_missing_number_in_a_product_stays_visible(kind):
    weight, bias, x, _, _ = operands(7, 5, kind)
    weight[3, 2] = np.nan
    out = np.zeros(7, kind)

    products.affine(weight, bias, x, out)

    np.testing.assert_array_equal(np.isnan(out), np.arange(7) == 3)


def every_magnitude():
    """float32 of both signs from the smallest denormal to the largest, dense where the functions bend."""
    powers = np.logspace(-45, math.log10(np.finfo(np.float32).max), 200_001)
    dense = np.linspace(0.0, 12.0, 600_001)
    positive = np.unique(np.concatenate([powers, dense]).astype(np.float32))
    return np.concatenate([-positive[::-1], positive])


def test_tanh_in_float32_is_right_to_four_units_in_the_last_place():
    x = every_magnitude()
    found = x.copy()
    products.tanh(found)

    expected = np.tanh(x.astype(np.float64))
    unit = np.spacing(np.abs(expected).astype(np.float32)).astype(np.float64)
    off = np.abs(found - expected)
    # Below 1e-35 the products underflow; what is lost there is smaller than any number a state is made of.
    normal = np.abs(x) >= 1e-35
    assert (off[normal] / unit[normal]).max() <= 4.0
    assert off[~normal].max() <= 1e-37
    assert np.abs(found).max() <= 1.0
    np.testing.assert_array_equal(found, -found[::-1])


def test_sigmoid_in_float32_is_right_to_two_in_ten_million():
    x = every_magnitude()
    found = x.copy()
    products.sigmoid(found)

    expected = 0.5 * np.tanh(0.5 * x.astype(np.float64)) + 0.5
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-7)
    assert found.min() >= 0.0
    assert found.max() <= 1.0


def test_activations_in_float64_are_those_of_numpy():
    x = every_magnitude().astype(np.float64)
    tanh, sigmoid = x.copy(), x.copy()
    products.tanh(tanh)
    products.sigmoid(sigmoid)

    np.testing.assert_allclose(tanh, np.tanh(x), rtol=1e-15, atol=0)
    np.testing.assert_allclose(sigmoid, 0.5 * np.tanh(0.5 * x) + 0.5, rtol=1e-15, atol=1e-16)


@each_precision
@pytest.mark.parametrize("size", [1, 3, 4, 8, 9, 16, 33])
def test_activations_of_what_is_not_finite(kind, size):
    """In every lane of a vector and in what is left over."""
    for x, tanh, sigmoid in ((np.nan, np.nan, np.nan), (np.inf, 1.0, 1.0), (-np.inf, -1.0, 0.0)):
        found = np.full(size, x, kind)
        products.tanh(found)
        np.testing.assert_allclose(found, np.full(size, tanh), rtol=0, atol=5e-7)

        found = np.full(size, x, kind)
        products.sigmoid(found)
        np.testing.assert_allclose(found, np.full(size, sigmoid), rtol=0, atol=5e-7)


@each_precision
def test_activations_of_zero_are_exact(kind):
    for function, expected in ((products.tanh, 0.0), (products.sigmoid, 0.5)):
        x = np.zeros(9, kind)
        function(x)
        np.testing.assert_array_equal(x, np.full(9, expected))


def test_an_activation_does_not_depend_on_the_place_in_the_vector():
    x = np.random.default_rng(5).normal(0.0, 3.0, 200).astype(np.float32)
    together = x.copy()
    products.tanh(together)

    for start in (1, 2, 3, 5, 195):
        shifted = x[start:].copy()
        products.tanh(shifted)
        np.testing.assert_array_equal(shifted, together[start:])
