"""The bare matrix products of a net on one device: what no implementation of it on that device can be faster than.

A prediction of S draws for B rows needs, at the least, the products of one pass over B x S rows wherever draws are not
merged; a training step those forwards and, for each layer, the two of its gradients (the first layer's inputs need
none). Nothing else is done: no bias, no activation, no noise. `seconds of the products / seconds of a contestant` is
the contestant's share of the limit; above 1 it does fewer products than one pass over B x S rows has. Each
step's products are one call from Python, which for nets as small as 8-50-1 costs more than they do: there the figure is
no limit for loops inside one graph.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

NAME = "bare matrix products"


def dense(*sizes: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(inputs of one row, kernel) of each layer of an MLP."""
    return [((inputs,), (inputs, units)) for inputs, units in itertools.pairwise(sizes)]


# 28 x 28 images; the first layer's are padded by two pixels on each side.
LENET = [((32, 32, 1), (5, 5, 1, 6)), ((14, 14, 6), (5, 5, 6, 16)), *dense(400, 120, 84, 10)]


def flops(layers: Sequence, rows: int, training: bool = False) -> int:
    """Multiplications and additions of the products."""
    forward = [2 * rows * int(np.prod(kernel)) * _positions(inputs, kernel) for inputs, kernel in layers]
    return 3 * sum(forward) - forward[0] if training else sum(forward)


def products(layers: Sequence, rows: int, training: bool = False) -> Callable[[], None]:
    """A compiled function that does them once, and waits until they are done.

    Args:
        layers: (shape of one row of inputs, shape of the kernel) of each layer; kernels of rank 4 are convolved.
        rows: of every product.
        training: the products of the gradients too.
    """
    rng = np.random.default_rng(0)
    inputs = [_noise(rng, (rows, *one)) for one, _ in layers]
    kernels = [_noise(rng, kernel) for _, kernel in layers]
    if not training:
        forward = tf.function(_forward, autograph=False, jit_compile=False)
        return lambda: forward(inputs, kernels).numpy()
    gradients = [_noise(rng, _product(x, w).shape) for x, w in zip(inputs, kernels, strict=True)]
    step = tf.function(_with_gradients, autograph=False, jit_compile=False)
    return lambda: step(inputs, kernels, gradients).numpy()


def _forward(inputs: list, kernels: list) -> tf.Tensor:
    return _touched([_product(x, w) for x, w in zip(inputs, kernels, strict=True)])


def _with_gradients(inputs: list, kernels: list, gradients: list) -> tf.Tensor:
    sources = [*inputs[1:], *kernels]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(sources)
        outputs = [_product(x, w) for x, w in zip(inputs, kernels, strict=True)]
    return _touched([*outputs, *tape.gradient(outputs, sources, output_gradients=gradients)])


def _touched(results: list) -> tf.Tensor:
    """One number of each, so that none is pruned from the graph and none is copied to the host."""
    return tf.add_n([tf.reshape(result, [-1])[0] for result in results])


def _product(x: tf.Tensor, w: tf.Tensor) -> tf.Tensor:
    return tf.nn.conv2d(x, w, strides=1, padding="VALID") if w.shape.rank == 4 else tf.linalg.matmul(x, w)


def _positions(inputs: tuple, kernel: tuple) -> int:
    """How often a kernel meets the inputs of one row."""
    return int(np.prod(np.array(inputs[:-1]) - np.array(kernel[:-2]) + 1)) if len(kernel) == 4 else 1


def _noise(rng: np.random.Generator, shape: tuple) -> tf.Tensor:
    return tf.constant(rng.standard_normal(tuple(shape), np.float32))
