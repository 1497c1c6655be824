"""Variational inference: the posterior is the member of a family that maximises the ELBO."""

from __future__ import annotations

from typing import Any

import keras

from tfbnn.core.draws import Draws
from tfbnn.training import BayesianModel


class VariationalInference:
    """q(w) = argmax_q E_q[log p(y|X, w)] - KL(q || p), by stochastic gradients.

    Args:
        network: Keras model of variational layers, [B, ...] -> [B, P].
        likelihood: a `tfbnn.likelihoods` object, or name.
        optimizer: of Keras.
        **kwargs: of `BayesianModel` (beta, train_samples, seed, ...).

    Attributes:
        model: the `BayesianModel` that is trained.

    Example:
        >>> draws = tfbnn.inference.VariationalInference(network, "Normal").fit(x, y, epochs=100, verbose=0)

    Reference: Graves 2011; Blundell et al. 2015.
    """

    def __init__(self, network: keras.Model, likelihood: Any, optimizer: Any = "adam", **kwargs: Any):
        self.model = BayesianModel(network, likelihood, **kwargs)
        self.model.compile(optimizer)

    def fit(self, *args: Any, **kwargs: Any) -> Draws:
        """Trains, with the arguments of `BayesianModel.fit`; returns the posterior's endless draws."""
        self.model.fit(*args, **kwargs)
        return self.model.posterior_draws()
