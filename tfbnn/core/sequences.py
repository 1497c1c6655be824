"""Random bits spread more evenly over draws than chance spreads them: pairs of opposites, and Sobol's points."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

SEQUENCES = ("independent", "antithetic", "sobol")
MOST_DIMENSIONS = 4096  # of Sobol's points: numbers of noise in a draw
LOG_POINTS = 14  # of which there are 2^14; draws after those repeat them
_WORD = 32


def antithetic_bits(half: tf.Tensor) -> tf.Tensor:
    """Draw 2 i has bits of its own, draw 2 i + 1 the opposite of each: u and 1 - u, eps and -eps.

    What is linear in the noise has no error in the mean over a pair.

    Args:
        half: int32 [n, ...], random, of static shape.

    Returns:
        int32 [2 n, ...], draws from an even number on.

    Reference: Hammersley & Morton 1956.
    """
    half = _on_device(half)
    both = tf.stack([half, tf.bitwise.invert(half)], axis=1)
    return tf.bitcast(tf.reshape(both, [-1, *half.shape[1:]]), tf.int32)


def _on_device(bits: tf.Tensor) -> tf.Tensor:
    """int32 -> uint32: TensorFlow's GPU kernels that stack, slice, reshape or multiply int32 do it on the host."""
    return tf.bitcast(bits, tf.uint32)


def sobol_bits(numbers: tf.Tensor, first: int, shape: Sequence[int], shift: tf.Tensor) -> tf.Tensor:
    """Of draw i the bits of Sobol's point i in dimensions first ... first + size - 1, each turned by its own shift.

    Each number alone is spread evenly over any 2^k draws that begin at a multiple of 2^k: one falls into each of 2^k
    intervals of equal probability. A random shift (exclusive or) makes each draw what an independent one is.

    Args:
        numbers: of the draws, int32 [n].
        first: dimension of the first of the numbers.
        shape: of one draw's noise.
        shift: int32 of `shape`, random.

    Returns:
        int32 [n, *shape].

    Reference: Sobol 1967; Joe & Kuo 2008; Owen 1995 on randomised points (a digital shift is the simplest).
    """
    size = math.prod(shape)
    directions = tf.constant(direction_numbers(MOST_DIMENSIONS)[:, first : first + size].view(np.uint32))
    numbers = _on_device(numbers)
    gray = tf.bitwise.bitwise_xor(numbers, tf.bitwise.right_shift(numbers, 1))
    bits = tf.zeros([numbers.shape[0], size], tf.uint32)
    for k in range(LOG_POINTS):
        has_bit = tf.bitwise.bitwise_and(tf.bitwise.right_shift(gray, k), 1)
        bits = tf.bitwise.bitwise_xor(bits, has_bit[:, tf.newaxis] * directions[k])
    turned = tf.bitwise.bitwise_xor(tf.reshape(bits, [-1, *shape]), _on_device(shift))
    return tf.bitcast(turned, tf.int32)


@functools.cache
def direction_numbers(dimensions: int) -> np.ndarray:
    """V_k of each dimension, int32 [LOG_POINTS, d]: of point i the exclusive or over the bits of its Gray code."""
    from scipy.stats import qmc

    points = qmc.Sobol(dimensions, scramble=False, bits=_WORD)
    # Point 2^k has the Gray code 2^k + 2^(k - 1): its exclusive or with what came of V_(k - 1) is V_k.
    found = np.zeros((LOG_POINTS, dimensions), np.uint32)
    points.fast_forward(1)
    for k in range(LOG_POINTS):
        found[k] = (points.random(1)[0] * 2.0**_WORD).astype(np.uint64).astype(np.uint32)
        if k:
            found[k] ^= found[k - 1]
        points.fast_forward(2**k - 1)
    return found.view(np.int32)
