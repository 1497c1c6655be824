"""tfbnn: `predict_distribution` in its two couplings, and `fit` or `tfbnn.train` with two estimators."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

import tfbnn
from benchmarks.peers.serve import inverse_softplus, layers, serve, threads

PACKAGES = ("tensorflow", "tensorflow-probability", "keras")


class Net:
    def __init__(self, task: dict, arrays: dict):
        self.task, self.x, self.y = task, arrays["x"], arrays["y"]
        self.how, _, layer = task["variant"].partition(" ")
        if self.how == "train" and not hasattr(tfbnn, "train"):
            raise NotImplementedError("this version has no tfbnn.train")
        self.model = _model(layer or "DenseFlipout", task["kind"], layers(arrays), self.x.shape[1])
        self._draw = tf.function(lambda x: self.model(x, training=True))

    def kl(self) -> float:
        return float(self.model.kl_divergence())

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


def _model(layer: str, kind: str, weights: list[dict], inputs: int) -> tfbnn.BayesianModel:
    make, units = getattr(tfbnn.layers, layer), [part["bias_loc"].size for part in weights]
    hidden = [make(unit, activation="relu") for unit in units[:-1]]
    network = keras.Sequential([keras.Input((inputs,)), *hidden, make(units[-1])])
    classes = kind == "classes"
    likelihood = tfbnn.likelihoods.Categorical(units[-1]) if classes else tfbnn.likelihoods.Normal(scale=1.0)
    model = tfbnn.BayesianModel(network, likelihood, seed=0)
    for made, part in zip(model.variational_layers, weights, strict=True):
        for q, name in zip(made.weight_posteriors, ("kernel", "bias"), strict=True):
            q.loc.assign(part[f"{name}_loc"])
            q.rho.assign(inverse_softplus(part[f"{name}_scale"]))
    model.compile(keras.optimizers.Adam())
    return model


if __name__ == "__main__":
    tf.config.threading.set_intra_op_parallelism_threads(threads())
    tf.config.threading.set_inter_op_parallelism_threads(threads())
    serve(Net, PACKAGES)
