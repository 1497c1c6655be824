"""tfp.layers on tf_keras (Keras 2): draws in a loop inside one graph, which was faster than S x B tiled rows.

The tutorials' ways stand beside it: a loop in Python over eager calls of the model, or over `predict`.
"""

from __future__ import annotations

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from benchmarks.peers.serve import Step, inverse_softplus, serve, steps, threads

PACKAGES = ("tensorflow", "tensorflow-probability", "tf_keras")


class Net:
    def __init__(self, task: dict, arrays: dict):
        self.task, self.x, self.y = task, arrays["x"], arrays["y"]
        estimator, _, self.loop = task["variant"].partition(" ")
        self.net = _network(estimator, steps(arrays), self.x.shape[1:])
        self.optimizer = tf_keras.optimizers.Adam()
        if task["work"] == "train":
            self.optimizer.build(self.net.trainable_variables)
        self._draws = tf.function(self._draws_of, reduce_retracing=True)
        self._step = tf.function(self._step_on, reduce_retracing=True)

    def kl(self) -> float:
        self.net(self.x[:1])
        return float(tf.add_n(self.net.losses))

    def outputs(self, draws: int) -> np.ndarray:
        return self._draws(tf.constant(self.x[:1]), tf.constant(draws)).numpy()[:, 0]

    def run(self) -> None:
        draws = self.task["samples"]
        if self.loop == "eager":
            tf.stack([self.net(self.x) for _ in range(draws)]).numpy()
        elif self.loop == "predict()":
            np.stack([self.net.predict(self.x, batch_size=len(self.x), verbose=0) for _ in range(draws)])
        elif self.task["work"] == "predict":
            self._draws(tf.constant(self.x), tf.constant(draws)).numpy()
        else:
            self._train()

    def _draws_of(self, x: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        return tf.map_fn(lambda _: self.net(x), tf.range(draws), fn_output_signature=tf.float32)

    def _train(self) -> None:
        batch, rows = self.task["batch"], len(self.x)
        for _ in range(self.task["epochs"]):
            order = np.random.permutation(rows)
            for start in range(0, rows, batch):
                chosen = order[start : start + batch]
                loss = self._step(self.x[chosen], self.y[chosen])
        loss.numpy()

    def _step_on(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            outputs = self.net(x)
            loss = tf.reduce_mean(self._surprise(outputs, y)) + tf.add_n(self.net.losses) / len(self.x)
        variables = self.net.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    def _surprise(self, outputs: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        if self.task["kind"] == "classes":
            return tf.nn.sparse_softmax_cross_entropy_with_logits(y, outputs)
        return tf.square(outputs - y) / 2 + np.log(2 * np.pi) / 2


def _network(estimator: str, net: list[Step], row: tuple[int, ...]) -> tf_keras.Model:
    network = tf_keras.Sequential([tf_keras.Input(row), *(_layer(estimator, step) for step in net)])
    for layer, step in zip(network.layers, net, strict=True):
        rho = {name: inverse_softplus(step.part[f"{name}_scale"]) for name in ("kernel", "bias") if step.part}
        for variable in layer.weights:
            name = "kernel" if "kernel_posterior" in variable.name else "bias"
            variable.assign(rho[name] if "untransformed_scale" in variable.name else step.part[f"{name}_loc"])
    return network


def _layer(estimator: str, step: Step) -> tf_keras.layers.Layer:
    """TFP's bias is a point unless told: here it has a posterior, as everybody's."""
    if step.kind == "pooling":
        return tf_keras.layers.MaxPooling2D(2)
    if step.kind == "flatten":
        return tf_keras.layers.Flatten()
    posterior, prior = tfp.layers.default_mean_field_normal_fn, tfp.layers.default_multivariate_normal_fn
    told = {"kernel_posterior_fn": posterior(), "bias_posterior_fn": posterior(), "bias_prior_fn": prior}
    units = step.part["bias_loc"].size
    if step.kind == "dense":
        return getattr(tfp.layers, f"Dense{estimator}")(units, activation=step.activation, **told)
    make = getattr(tfp.layers, f"Convolution2D{estimator}")
    return make(units, 5, padding=step.padding, activation=step.activation, **told)


if __name__ == "__main__":
    tf.config.threading.set_intra_op_parallelism_threads(threads())
    tf.config.threading.set_inter_op_parallelism_threads(threads())
    serve(Net, PACKAGES)
