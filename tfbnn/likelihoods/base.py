"""The protocol of likelihoods p(y|f)."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn.core.checks import invalid


class Likelihood(keras.layers.Layer):
    """A Keras layer that turns the network's P outputs into P' complete parameters of a distribution of y.

    The network, its prior and its KL live in standardised units; parameters, densities and moments in the units of y.

    Attributes:
        num_outputs: P, what the network must put out for a row.
        num_targets: T, length of a row of y, [B, T].
        is_classifier: whether y is a class.
    """

    num_outputs: int
    num_targets: int
    is_classifier = False

    def __init__(self, **kwargs: Any):
        super().__init__(**{"dtype": "float32", **kwargs})  # densities in float32 under mixed precision too
        self.built = type(self).build is keras.layers.Layer.build  # without a `build`, weights are made in __init__

    @abc.abstractmethod
    def distribution(self, parameters: tf.Tensor) -> Any:
        """`tfd` distribution of y with batch shape [..., T] for parameters [..., P']."""

    @abc.abstractmethod
    def log_prob(self, parameters: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """log p(y | parameters), nats a row: [..., B, P'], [B, T] -> [..., B]."""

    @abc.abstractmethod
    def mean(self, parameters: tf.Tensor) -> tf.Tensor:
        """E[y]: [..., T] in the units of y; P(y = 1) [..., 1] for two classes; [..., K] of the one-hot y for K."""

    @abc.abstractmethod
    def variance(self, parameters: tf.Tensor) -> tf.Tensor:
        """Var[y] given the parameters, the aleatoric part, of the shape of `mean`."""

    def adapt(self, y: Any) -> Likelihood:
        """Fits what is fixed before training (the standardisation of y) on the training targets; returns itself."""
        self.check_target("y", np.asarray(y))
        return self

    def match_target(self, y: Any) -> tf.Tensor:
        """y as a tensor [B, T]; [B] gains its axis where T is 1.

        Raises:
            InvalidInput: for every other mismatch of shapes.
        """
        y = tf.convert_to_tensor(y)
        T = self.num_targets
        if y.shape.rank is None:  # a graph that has seen both [B] and [B, T]
            y = tf.reshape(y, [-1, 1]) if T == 1 else tf.ensure_shape(y, [None, T])
        self.check_target_shape("y", y.shape)
        return self._cast_target(y[:, tf.newaxis] if len(y.shape) == 1 else y)

    def check_target_shape(self, where: str, shape: Sequence[int | None]) -> None:
        """Raises unless targets of this shape, that of all rows, fit: [N, T], or [N] where T is 1."""
        T, sizes = self.num_targets, list(shape)
        if sizes[1:] == [T] or (len(sizes) == 1 and T == 1):
            return
        expected = f"shape [N, {T}]" + (" or [N]" if T == 1 else "")
        raise invalid(where, f"{expected} for {type(self).__name__}", sizes, self._mend_shape(sizes))

    def check_numbers(self, where: str, y: Any) -> np.ndarray:
        """Returns y as float64; raises, with the mend for labels, where it is text."""
        try:
            return np.asarray(y, np.float64)
        except (TypeError, ValueError):
            raise invalid(where, "numbers", y, self._mend_text) from None

    def check_outputs(self, outputs: tf.Tensor) -> tf.Tensor:
        """Returns the network's `outputs`; raises unless they are [B, P]."""
        P = self.num_outputs
        if len(outputs.shape) != 2 or outputs.shape[-1] != P:
            raise invalid(
                "network",
                f"a network that puts out [B, {P}] for {type(self).__name__}",
                f"outputs of shape {list(outputs.shape)}",
                f"Give its last layer {P} unit{'s' if P > 1 else ''}.",
            )
        return outputs

    def check_target(self, where: str, y: np.ndarray) -> None:
        """Raises where values of y are impossible under this likelihood; `y` is NumPy [N] or [N, T]."""

    def _cast_target(self, y: tf.Tensor) -> tf.Tensor:
        return tf.cast(y, tf.float32)

    _mend_text = "Text names classes: use Bernoulli or Categorical, or give numbers."

    def _mend_shape(self, shape: list[int | None]) -> str:
        return ""

    def compute_output_shape(self, input_shape):
        """[B, P] -> [B, P']."""
        return (*input_shape[:-1], self.num_parameters)

    @property
    def num_parameters(self) -> int:
        """P', length of a row of complete parameters."""
        return self.num_outputs
