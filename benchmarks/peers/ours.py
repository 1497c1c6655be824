"""tfbnn: `predict_distribution` in its two couplings, and `fit` or `tfbnn.train` with two estimators."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

import tfbnn
from benchmarks.peers.serve import Step, device, inverse_softplus, serve, steps, threads

PACKAGES = ("tensorflow", "tensorflow-probability", "keras")


class Net:
    def __init__(self, task: dict, arrays: dict):
        self.task, self.x, self.y = task, arrays["x"], arrays["y"]
        self.how, _, estimator = task["variant"].partition(" ")
        if self.how == "train" and not hasattr(tfbnn, "train"):
            raise NotImplementedError("this version has no tfbnn.train")
        estimator = "Flipout" if task["work"] == "predict" else estimator
        self.model = _model(estimator, task["kind"], steps(arrays), self.x.shape[1:])
        self._draw = tf.function(lambda x: self.model(x, training=True))

    def kl(self) -> float:
        return float(self.model.kl_divergence()) if self.model.variational_layers else 0.0

    def outputs(self, draws: int) -> np.ndarray:
        row = self.x[:1]
        if self.task["work"] == "predict":
            return self.model.predict_distribution(row, draws, coupling=self.how).parameters[:, 0]
        drawn = np.concatenate([self._draw(row) for _ in range(draws)])
        return drawn if self.task["kind"] == "classes" else drawn[:, : self.y.shape[1]]

    def run(self) -> None:
        if self.task["work"] == "predict":
            self.model.predict_distribution(self.x, self.task["samples"], coupling=self.how)
        else:
            train = self.model.fit if self.how == "fit" else self._train
            train(self.x, self.y, epochs=self.task["epochs"], batch_size=self.task["batch"], verbose=0)

    def _train(self, x: np.ndarray, y: np.ndarray, **arguments: int) -> None:
        tfbnn.train(self.model, x, y, **arguments)


def _model(estimator: str, kind: str, net: list[Step], row: tuple[int, ...]) -> tfbnn.BayesianModel:
    """Without an estimator the weights are points, of plain Keras layers."""
    network = keras.Sequential([keras.Input(row), *(_layer(estimator, step) for step in net)])
    units = network.output_shape[-1]
    classes = kind == "classes"
    likelihood = tfbnn.likelihoods.Categorical(units) if classes else tfbnn.likelihoods.Normal(scale=1.0)
    model = tfbnn.BayesianModel(network, likelihood, seed=0)
    weighted = [(layer, step.part) for layer, step in zip(network.layers, net, strict=True) if step.part]
    for layer, part in weighted:
        if estimator:
            _set_posteriors(layer, part)
        else:
            layer.set_weights([part["kernel_loc"], part["bias_loc"]])
    model.compile(keras.optimizers.Adam())
    return model


def _layer(estimator: str, step: Step) -> keras.layers.Layer:
    if step.kind == "pooling":
        return keras.layers.MaxPooling2D(2)
    if step.kind == "flatten":
        return keras.layers.Flatten()
    family, units = tfbnn.layers if estimator else keras.layers, step.part["bias_loc"].size
    if step.kind == "dense":
        return getattr(family, f"Dense{estimator}")(units, activation=step.activation)
    return getattr(family, f"Conv2D{estimator}")(units, 5, padding=step.padding, activation=step.activation)


def _set_posteriors(layer: keras.layers.Layer, part: dict) -> None:
    for q, name in zip(layer.weight_posteriors, ("kernel", "bias"), strict=True):
        q.loc.assign(part[f"{name}_loc"])
        q.rho.assign(inverse_softplus(part[f"{name}_scale"]))


if __name__ == "__main__":
    tf.config.threading.set_intra_op_parallelism_threads(threads())
    tf.config.threading.set_inter_op_parallelism_threads(threads())
    with tf.device(device()):
        serve(Net, PACKAGES)
