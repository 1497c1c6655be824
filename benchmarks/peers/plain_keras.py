"""The same architecture with point weights, the means: what no uncertainty costs.

Its prediction is one compiled pass over S x B rows, which is what S passes would cost at best; the rows lie in a
tensor before the clock starts. It trains by Keras' own `fit`. The bare matrix products of that work stand beside it.
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from benchmarks import limit
from benchmarks.peers.serve import Step, device, serve, steps, threads

PACKAGES = ("tensorflow", "keras")


class Net:
    def __init__(self, task: dict, arrays: dict):
        self.task, self.x, self.y = task, arrays["x"], arrays["y"]
        self.net = _network(steps(arrays), self.x.shape[1:])
        self._pass = tf.function(lambda x: self.net(x, training=False), jit_compile=False)
        self._repeated = tf.constant(np.concatenate([self.x] * max(task["samples"], 1)))
        classes = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.net.compile(keras.optimizers.Adam(), classes if task["kind"] == "classes" else "mse")

    def kl(self) -> float:
        return 0.0

    def outputs(self, draws: int) -> np.ndarray:
        return np.repeat(self._pass(tf.constant(self.x[:1])).numpy(), draws, axis=0)

    def run(self) -> None:
        if self.task["work"] == "predict":
            self._pass(self._repeated).numpy()
        else:
            self.net.fit(self.x, self.y, batch_size=self.task["batch"], epochs=self.task["epochs"], verbose=0)


class Products:
    def __init__(self, task: dict, arrays: dict):
        trains, rows = task["work"] == "train", len(arrays["x"])
        self.steps = task["epochs"] * -(-rows // task["batch"]) if trains else 1
        self._products = limit.products(task["layers"], task["batch"] if trains else rows * task["samples"], trains)

    def kl(self) -> float:
        return 0.0

    def run(self) -> None:
        for _ in range(self.steps):
            self._products()


def build(task: dict, arrays: dict) -> Net | Products:
    """The net, or its bare matrix products."""
    return Products(task, arrays) if task["variant"] == "products" else Net(task, arrays)


def _network(net: list[Step], row: tuple[int, ...]) -> keras.Model:
    network = keras.Sequential([keras.Input(row), *map(_layer, net)])
    network.set_weights([step.part[name] for step in net if step.part for name in ("kernel_loc", "bias_loc")])
    return network


def _layer(step: Step) -> keras.layers.Layer:
    if step.kind == "pooling":
        return keras.layers.MaxPooling2D(2)
    if step.kind == "flatten":
        return keras.layers.Flatten()
    units = step.part["bias_loc"].size
    if step.kind == "dense":
        return keras.layers.Dense(units, activation=step.activation)
    return keras.layers.Conv2D(units, 5, padding=step.padding, activation=step.activation)


if __name__ == "__main__":
    tf.config.threading.set_intra_op_parallelism_threads(threads())
    tf.config.threading.set_inter_op_parallelism_threads(threads())
    with tf.device(device()):
        serve(build, PACKAGES)
