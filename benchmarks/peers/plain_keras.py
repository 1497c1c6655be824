"""The same architecture with point weights, the means: what no uncertainty costs.

Its prediction is one compiled pass over S x B rows, which is what S passes would cost at best; the rows lie in a
tensor before the clock starts. It trains by Keras' own `fit`.
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from benchmarks.peers.serve import layers, serve, threads

PACKAGES = ("tensorflow", "keras")


class Net:
    def __init__(self, task: dict, arrays: dict):
        self.task, self.x, self.y = task, arrays["x"], arrays["y"]
        self.net = _network(layers(arrays), self.x.shape[1])
        self._pass = tf.function(lambda x: self.net(x, training=False), jit_compile=False)
        self._repeated = tf.constant(np.tile(self.x, (max(task["samples"], 1), 1)))
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


def _network(weights: list[dict], inputs: int) -> keras.Model:
    units = [part["bias_loc"].size for part in weights]
    hidden = [keras.layers.Dense(unit, activation="relu") for unit in units[:-1]]
    net = keras.Sequential([keras.Input((inputs,)), *hidden, keras.layers.Dense(units[-1])])
    net.set_weights([part[name] for part in weights for name in ("kernel_loc", "bias_loc")])
    return net


if __name__ == "__main__":
    tf.config.threading.set_intra_op_parallelism_threads(threads())
    tf.config.threading.set_inter_op_parallelism_threads(threads())
    serve(Net, PACKAGES)
