"""Likelihoods of classes: two (Bernoulli) or K (Categorical)."""

from __future__ import annotations

import abc
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfbnn.core.checks import invalid, positive_integer
from tfbnn.core.serialization import register
from tfbnn.likelihoods.base import Likelihood

tfd = tfp.distributions


class ClassLikelihood(Likelihood):
    """A likelihood whose y is a class index, 0 ... K - 1.

    Attributes:
        num_classes: K.
    """

    is_classifier = True
    num_targets = 1
    num_classes: int

    def call(self, outputs):
        """[B, P] logits, which are the parameters."""
        return outputs

    @abc.abstractmethod
    def class_probabilities(self, parameters: tf.Tensor) -> tf.Tensor:
        """P(y = k), [..., K], for parameters [..., P']."""

    def variance(self, parameters):
        """p (1 - p) of each entry of `mean`."""
        p = self.mean(parameters)
        return p * (1.0 - p)

    def check_target(self, where, y):
        values = np.unique(self.check_numbers(where, y))
        if not np.isin(values, np.arange(self.num_classes)).all():
            raise invalid(where, f"class indices 0 ... {self.num_classes - 1}", values)

    _mend_text = "Labels become class indices by labels, y = numpy.unique(labels, return_inverse=True)."

    def _mend_shape(self, shape):
        return "Give one class index a row: one-hot rows become indices by numpy.argmax(y, axis=1)."


@register
class Bernoulli(ClassLikelihood):
    """Two classes: P(y = 1) = sigmoid(f). P = 1 logit a row; y is 0 or 1."""

    num_outputs = 1
    num_classes = 2

    def distribution(self, parameters):
        return tfd.Bernoulli(logits=parameters)

    def log_prob(self, parameters, y):
        return tf.reduce_sum(self.distribution(parameters).log_prob(y), axis=-1)

    def expected_log_prob(self, mean, variance, y):
        """y m - log(1 + exp(m + v / 2)) <= E[log p(y|f)]: Jensen's inequality."""
        m, v = mean[..., 0], variance[..., 0]
        return tf.cast(y[..., 0], m.dtype) * m - tf.nn.softplus(m + 0.5 * v)

    def mean(self, parameters):
        return tf.sigmoid(parameters)

    def null_parameters(self, y):
        return np.log(np.mean(y == 1, axis=0) / np.mean(y == 0, axis=0))

    def class_probabilities(self, parameters):
        return tf.concat([tf.sigmoid(-parameters), tf.sigmoid(parameters)], axis=-1)


@register
class Categorical(ClassLikelihood):
    """K classes: P(y = k) = softmax(f)_k. P = K logits a row; y is a class index.

    Args:
        num_classes: K, 2 or more.
    """

    def __init__(self, num_classes: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_classes = positive_integer("num_classes", num_classes)
        if self.num_classes < 2:
            raise invalid("num_classes", "2 or more", num_classes)
        self.num_outputs = self.num_classes

    def distribution(self, parameters):
        return tfd.Categorical(logits=parameters[..., tf.newaxis, :])

    def log_prob(self, parameters, y):
        return tfd.Categorical(logits=parameters).log_prob(y[..., 0])

    def expected_log_prob(self, mean, variance, y):
        """m_y - log sum_k exp(m_k + v_k / 2) <= E[log p(y|f)]: Jensen's inequality (Harrison 2024, section 3.2)."""
        of_class = tf.gather(mean, y[..., 0], axis=-1, batch_dims=1)
        return of_class - tf.reduce_logsumexp(mean + 0.5 * variance, axis=-1)

    def mean(self, parameters):
        return tf.nn.softmax(parameters)

    def null_parameters(self, y):
        return np.log([np.mean(y == k) for k in range(self.num_classes)])

    def class_probabilities(self, parameters):
        return tf.nn.softmax(parameters)

    def _cast_target(self, y):
        return tf.cast(y, tf.int32)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "num_classes": self.num_classes}
