"""Embeddings whose table of vectors has a posterior."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfbnn import estimators, posteriors, priors
from tfbnn.core.checks import invalid, positive_integer
from tfbnn.core.serialization import register
from tfbnn.layers.base import VariationalLayer, check_divergence, divergence_config


@register
class EmbeddingReparameterization(VariationalLayer):
    """y[b, t] = w[x[b, t]]: vectors of whole numbers, one draw of the table a call.

    A number that is rare keeps a wide posterior: what follows is unsure of it. The KL is of the whole table.

    When: categories and words of which some are rare: those stay unsure.
    Cost: 2 numbers an entry; one draw of the whole table a call.

    Args:
        input_dim: V, how many whole numbers there are, 0 ... V - 1.
        output_dim: E, size of a vector.
        embeddings_posterior_fn: q of the table [V, E]: a `tfbnn.posteriors` object or name, or a TFP factory function.
        embeddings_prior_fn: p of the table, likewise; None only with a Deterministic posterior.
        embeddings_divergence_fn: as `kernel_divergence_fn` in `DenseReparameterization`.
        mask_zero: whether 0 is padding, which later layers skip.
        kl_weight, seed: as in `DenseReparameterization`.

    Inputs: whole numbers [B, ...]. Outputs: [B, ..., E].

    Example:
        >>> tfbnn.layers.EmbeddingReparameterization(1000, 16, mask_zero=True)

    Reference: Gal & Ghahramani 2016, "A Theoretically Grounded Application of Dropout in Recurrent Neural Networks",
    section 4.2, on why the table needs a posterior too.
    """

    estimator = staticmethod(estimators.reparameterization)

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_posterior_fn: Any = "MeanField",
        embeddings_prior_fn: Any = "Normal",
        embeddings_divergence_fn: Any = None,
        mask_zero: bool = False,
        kl_weight: float | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(kl_weight=kl_weight, seed=seed, **kwargs)
        self.input_dim = positive_integer("input_dim", input_dim)
        self.output_dim = positive_integer("output_dim", output_dim)
        self.embeddings_posterior_fn = posteriors.get(embeddings_posterior_fn)
        self.embeddings_prior_fn = priors.get(embeddings_prior_fn)
        self.embeddings_divergence_fn = check_divergence("embeddings_divergence_fn", embeddings_divergence_fn)
        self.mask_zero = bool(mask_zero)
        self.supports_masking = self.mask_zero
        self.autocast = False  # half precision holds few whole numbers

    def build(self, input_shape=None):
        """Adds the variables of the table [V, E]."""
        initial = keras.initializers.RandomUniform(-0.05, 0.05, seed=self.seed)
        self.add_term(
            "embeddings", (self.input_dim, self.output_dim), self.embeddings_posterior_fn, self.embeddings_prior_fn,
            self.embeddings_divergence_fn, initial,
        )  # fmt: skip
        self.built = True

    def call(self, inputs, training=None):
        """Whole numbers [B, ...] -> [B, ..., E], one draw."""
        if not (inputs.dtype.is_integer or inputs.dtype.is_floating):
            raise invalid("inputs", "whole numbers", inputs.dtype.name)
        return self._estimate(self._vectors, [tf.cast(inputs, tf.int32)], False, bool(training))

    def _vectors(self, x: list[tf.Tensor], w: list[tf.Tensor]) -> tf.Tensor:
        return tf.gather(tf.cast(w[0], self.compute_dtype), x[0])

    def compute_mask(self, inputs, mask=None):
        """Where the input is not 0, if 0 is padding."""
        return keras.ops.not_equal(inputs, 0) if self.mask_zero else None

    def compute_output_shape(self, input_shape):
        """[B, ...] -> [B, ..., E]."""
        return (*input_shape, self.output_dim)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            "embeddings_posterior_fn": posteriors.serialize(self.embeddings_posterior_fn),
            "embeddings_prior_fn": priors.serialize(self.embeddings_prior_fn),
            "embeddings_divergence_fn": divergence_config("embeddings_divergence_fn", self.embeddings_divergence_fn),
            "mask_zero": self.mask_zero,
        }
