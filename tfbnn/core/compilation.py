"""Which graphs XLA should compile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tensorflow as tf

# On CPUs XLA computes these, and their gradients above all, ten times slower than TensorFlow's kernels, and more.
SLOW_ON_CPU = ("Conv", "DepthwiseConv", "MaxPool", "AvgPool", "FractionalMaxPool", "FractionalAvgPool")


def is_worth_compiling(graph: tf.Graph) -> bool:
    """Whether XLA makes the operations of a graph faster, where it can compile them at all.

    Args:
        graph: of a traced function, for example `tf.function(f).get_concrete_function(x).graph`.

    Returns:
        False where there is no GPU, and the graph convolves or pools.

    Example:
        >>> tf.function(f, jit_compile=is_worth_compiling(graph))
    """
    if tf.config.list_logical_devices("GPU"):
        return True
    return not any(kind.startswith(SLOW_ON_CPU) for kind in _kinds(graph))


def _kinds(graph: Any) -> Iterator[str]:
    """Names of the kinds of operations, those of functions that it calls too."""
    described = graph.as_graph_def()
    for nodes in (described.node, *(function.node_def for function in described.library.function)):
        for node in nodes:
            yield node.op
