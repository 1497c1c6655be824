"""Variational inference: the posterior is the member of a family that maximises the ELBO."""

from __future__ import annotations

from typing import Any

import keras

from tfbnn.core.draws import Draws
from tfbnn.inference.base import Inference


class VariationalInference(Inference):
    """q(w) = argmax_q E_q[log p(y|X, w)] - beta KL(q || p), or of another bound, by stochastic gradients.

    Bounds of alpha below 1 let q be wider than the ELBO does: they forgive mass where the posterior has little, and
    not the reverse. They are of K draws, so that K has a say too: of few draws they are near the ELBO.

    Args:
        network: Keras model of variational layers, [B, ...] -> [B, P]; it is trained itself.
        likelihood, optimizer, seed, **kwargs: of `Inference`. beta below 1 gives a cold posterior, above 1 a warm one.
        bound: "elbo"; "renyi", L_alpha = 1 / (1 - alpha) log E_q[(p(D, w) / q(w))^(1 - alpha)], whose expectation is
            the mean of K = train_samples draws, 2 or more; or "importance_weighted", that of alpha 0. The last two
            need layers that draw one weight a pass (DenseReparameterization, DenseVariational). On batches of B rows
            the log likelihood is N / B times theirs, so that the bounds of small batches are off, as Li & Turner tell.
        alpha: of "renyi"; 1 is the ELBO.

    Example:
        >>> draws = tfbnn.inference.VariationalInference(network, "Normal").fit(x, y, epochs=100, verbose=0)

    Reference: Graves 2011; Blundell et al. 2015; Li & Turner 2016; Burda, Grosse & Salakhutdinov 2016.
    """

    def __init__(
        self,
        network: keras.Model,
        likelihood: Any,
        optimizer: Any = "adam",
        bound: str = "elbo",
        alpha: float = 0.5,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(network, likelihood, optimizer, seed, bound=bound, alpha=alpha, **kwargs)
        self.model = self.compiled(network)

    def fit(self, x, y=None, epochs=1, batch_size=32, **training) -> Draws:
        """Trains by `tfbnn.train`; returns the posterior's endless draws."""
        self.train(self.model, x, y, epochs=epochs, batch_size=batch_size, **training)
        return self.model.posterior_draws()
