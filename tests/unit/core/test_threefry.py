"""Threefry: the published numbers, the same bits everywhere, and none twice."""

import numpy as np
import pytest
import tensorflow as tf

from tfbnn.core.noise import counted_bits, standard_normal, threefry

# (key, counter, result) as published with the generator (Random123, kat_vectors, threefry2x32 20).
KNOWN = [
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
]


@pytest.mark.parametrize("jit_compile", [False, True])
def test_it_gives_the_published_numbers(jit_compile):
    run = tf.function(threefry, jit_compile=jit_compile, autograph=False)
    for key, counter, expected in KNOWN:
        found = run(tuple(np.uint32(k) for k in key), tuple(np.uint32(c) for c in counter))
        assert tuple(int(word) for word in found) == expected


def test_bits_are_the_same_under_xla():
    def bits(step):
        return counted_bits([5, 3], (7, 1), step)

    compiled = tf.function(bits, jit_compile=True, autograph=False)
    np.testing.assert_array_equal(compiled(tf.constant(12)), bits(tf.constant(12)))


def test_steps_and_keys_have_bits_of_their_own():
    found = [
        counted_bits([1000], (key, tensor), step).numpy() for key in (0, 1) for tensor in (0, 1) for step in (0, 1)
    ]
    assert len(np.unique(np.concatenate(found))) > 8 * 1000 - 5


def test_they_make_standard_normals():
    z = standard_normal(counted_bits([400_000], (3, 0), 5)).numpy().astype(np.float64)
    errors = np.array([1.0, 2.0**0.5, 15.0**0.5, 96.0**0.5]) / len(z) ** 0.5
    found = np.array([z.mean(), (z**2).mean() - 1.0, (z**3).mean(), (z**4).mean() - 3.0])
    assert (np.abs(found) < 4.0 * errors).all()
    halves = z[:200_000], z[200_000:]
    assert abs(np.corrcoef(*halves)[0, 1]) < 4.0 / 200_000**0.5


@pytest.mark.parametrize("shape", [(1,), (5, 3), (1025,), (700, 3)])
def test_keys_side_by_side_have_the_bits_of_each_alone(shape):
    keys = np.array([[3, 4], [5, 6], [0, 2**31 - 1]], np.int32)
    together = counted_bits(shape, (keys[:, 0], keys[:, 1]), 9)
    np.testing.assert_array_equal(together, [counted_bits(shape, tuple(key), 9) for key in keys])
    assert together.shape == (3, *shape)
    assert len(np.unique(together)) > 0.999 * np.size(together)
