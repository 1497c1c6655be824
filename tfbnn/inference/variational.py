"""Variational inference: the posterior is the member of a family that maximises the ELBO."""

from __future__ import annotations

from typing import Any

import keras

from tfbnn.core.draws import Draws
from tfbnn.inference.base import Inference


class VariationalInference(Inference):
    """q(w) = argmax_q E_q[log p(y|X, w)] - beta KL(q || p), by stochastic gradients.

    Args:
        network: Keras model of variational layers, [B, ...] -> [B, P]; it is trained itself.
        likelihood, optimizer, seed, **kwargs: of `Inference`. beta below 1 gives a cold posterior, above 1 a warm one.

    Example:
        >>> draws = tfbnn.inference.VariationalInference(network, "Normal").fit(x, y, epochs=100, verbose=0)

    Reference: Graves 2011; Blundell et al. 2015.
    """

    def __init__(
        self, network: keras.Model, likelihood: Any, optimizer: Any = "adam", seed: int | None = None, **kwargs: Any
    ):
        super().__init__(network, likelihood, optimizer, seed, **kwargs)
        self.model = self.compiled(network)

    def fit(self, x, y=None, epochs=1, batch_size=32, **training) -> Draws:
        """Trains by `tfbnn.train`; returns the posterior's endless draws."""
        self.train(self.model, x, y, epochs=epochs, batch_size=batch_size, **training)
        return self.model.posterior_draws()
