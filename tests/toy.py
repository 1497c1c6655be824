"""A small regression, networks for it, and what tests compare of models that were trained."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

import tfbnn

N = 24  # three batches of 8: one graph, where a smaller last batch makes two
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3)).astype("float32")
Y = (X @ [1.0, -2.0, 0.5] + 0.3 * RNG.normal(size=N)).astype("float32")
W = RNG.uniform(0.5, 2.0, N).astype("float32")


def network(layer: Any = tfbnn.layers.DenseFlipout, units: int = 1, seed: int = 1, **kwargs: Any) -> keras.Model:
    """3-4-units, with the same initial weights for one seed."""
    keras.utils.set_random_seed(seed)
    hidden = {"activation": "tanh", **kwargs}
    return keras.Sequential([keras.Input((3,)), layer(4, **hidden), layer(units, **kwargs)])


def linear(layer: Any = tfbnn.layers.DenseFlipout, seed: int = 1, **kwargs: Any) -> keras.Model:
    """3-1, which is traced in half the time."""
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((3,)), layer(1, **kwargs)])


def model_of(
    net: keras.Model | None = None,
    likelihood: Any = "Normal",
    optimizer: Any = None,
    compiled: Any = None,
    **kwargs: Any,
) -> tfbnn.BayesianModel:
    """A compiled model."""
    model = tfbnn.BayesianModel(net or linear(), likelihood, **{"seed": 3, "num_samples": 10, **kwargs})
    model.compile(optimizer or keras.optimizers.Adam(0.05), **(compiled or {}))
    return model


def train(model: tfbnn.BayesianModel, x: Any = X, y: Any = Y, **kwargs: Any) -> dict[str, list[float]]:
    """The history of a short training without XLA, unless told."""
    kwargs = {"epochs": 2, "batch_size": 8, "verbose": 0, "jit_compile": False, **kwargs}
    return tfbnn.train(model, x, y, **kwargs).history


def numbers(model: tfbnn.BayesianModel) -> list[np.ndarray]:
    """All weights and the optimizer's state."""
    return [np.asarray(v.numpy()) for v in (*model.network.variables, *model.optimizer.variables)]


def assert_equal(model: tfbnn.BayesianModel, other: tfbnn.BayesianModel) -> None:
    """To the last bit."""
    for mine, its in zip(numbers(model), numbers(other), strict=True):
        np.testing.assert_array_equal(mine, its)


def assert_close(model: tfbnn.BayesianModel, other: tfbnn.BayesianModel, tolerance: float = 1e-5) -> None:
    """Up to rounding."""
    for mine, its in zip(numbers(model), numbers(other), strict=True):
        np.testing.assert_allclose(mine, its, rtol=tolerance, atol=tolerance)


def differs(model: tfbnn.BayesianModel, other: tfbnn.BayesianModel) -> bool:
    """Whether some weight is another by more than rounding: what a test's twin must see."""
    pairs = zip(model.network.get_weights(), other.network.get_weights(), strict=True)
    return any(np.abs(mine - its).max() > 1e-4 for mine, its in pairs)
