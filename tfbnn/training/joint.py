"""log p(y|X, w) + log p(w) of a network of points, as a function of the weights of several chains at once."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn.core.checks import invalid
from tfbnn.core.noise import fold_in
from tfbnn.layers.base import WeightTerm
from tfbnn.objectives import mean_log_likelihood
from tfbnn.training import arrays
from tfbnn.training.loop import rows_of
from tfbnn.training.model import BayesianModel

FREE_SCALE = 3.0  # of the prior of what a likelihood learns, on the scale on which it is free


class LogJoint:
    """log p(y, w | X) = log p(y|X, w) + log p(w), nats, of stacked settings of the sampled variables.

    Sampled are the trainable weights that have a prior (those of layers of tfbnn), and the likelihood's own trainable
    variables, each with the prior Normal(its value now, 3^2) on the scale on which it is free (the rho of a noise
    scale softplus(rho)). All other weights stay at their present values. The network is asked as in prediction:
    dropout is off, and normalisations take their running statistics.

    Args:
        model: whose network has points for weights (`as_points`); its N is set, and it is built.
        x, y: all training rows.
        sample_weight: [N]; the log likelihood is N sum(w ll) / sum(w), as in training. None: all alike.

    Attributes:
        variables: the sampled ones.
        size: D, how many numbers they hold.
        rows: "x", "y", "w" as tensors.

    Raises:
        InvalidInput: where no weight has a prior, or a layer's posterior is more than a point.

    Example:
        >>> joint = LogJoint(model, x, y)
        >>> values = joint(joint.present()[tf.newaxis])      # [1]
    """

    def __init__(self, model: BayesianModel, x: Any, y: Any, sample_weight: Any = None):
        self.model = model
        self.rows = rows_of(model, x, y, sample_weight)
        model.num_data = model.choose_num_data(None, len(self.rows["y"]))
        model.build_for(x)
        arrays.check_width("x", model, self.rows["x"])
        self._terms = _terms_with_prior(model)
        self.free = list(model.likelihood.trainable_variables)
        self.free_locs = [tf.constant(variable.numpy()) for variable in self.free]
        self.variables: list[keras.Variable] = [*(_point(term) for term in self._terms), *self.free]
        self.sizes = [math.prod(variable.shape) for variable in self.variables]
        self.size = sum(self.sizes)

    def __call__(self, position: tf.Tensor) -> tf.Tensor:
        """The log joint density of each chain: [C, D] -> [C], with its gradient with respect to `position` alone."""

        @tf.custom_gradient
        def of(position):
            values, gradients = self.values_and_gradients(position)

            def pulled_back(upstream, variables=()):  # TensorFlow names those that are not sampled, where there are any
                gradient = upstream[:, tf.newaxis] * gradients
                return (gradient, [None] * len(variables)) if variables else gradient

            return values, pulled_back

        return of(position)

    def values_and_gradients(self, position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """[C, D] -> [C], [C, D]."""
        return tf.vectorized_map(self._value_and_gradient, position)

    def _value_and_gradient(self, position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:  # inside the map: XLA compiles gradients through one anew at every call
            tape.watch(position)
            value = self.of_one(position)
        return value, tape.gradient(value, position)

    def of_one(self, position: tf.Tensor) -> tf.Tensor:
        """The log joint density of one setting: [D] -> scalar."""
        with keras.StatelessScope(list(zip(self.variables, self.unstacked(position), strict=True))):
            return self._log_likelihood() + self._log_prior()

    def _log_likelihood(self) -> tf.Tensor:
        likelihood, rows = self.model.likelihood, self.rows
        outputs = likelihood.check_outputs(self.model.network(rows["x"], training=False))
        log_likelihood = likelihood.log_prob(likelihood(tf.cast(outputs, tf.float32)), rows["y"])
        return float(self.model.num_data or 0) * mean_log_likelihood(log_likelihood, rows.get("w"))

    def _log_prior(self) -> tf.Tensor:
        of_weights = [-term.penalty() for term in self._terms]
        of_free = [_log_normal(v.value, loc) for v, loc in zip(self.free, self.free_locs, strict=True)]
        return tf.add_n([*of_weights, *of_free])

    # --- settings ----------------------------------------------------------------------------------------------------

    def unstacked(self, position: Any) -> list[Any]:
        """[..., D] (tensor or NumPy) -> [..., *shape] of each variable."""
        library = tf if tf.is_tensor(position) else np
        ends = np.cumsum([0, *self.sizes])
        lead = list(position.shape[:-1])
        return [library.reshape(position[..., begin:end], [*lead, *variable.shape])
                for variable, begin, end in zip(self.variables, ends[:-1], ends[1:], strict=True)]  # fmt: skip

    def present(self) -> tf.Tensor:
        """The present values of the variables, [D]."""
        return tf.concat([tf.reshape(variable.value, [-1]) for variable in self.variables], axis=0)

    def prior_draws(self, count: int, seed: tf.Tensor) -> tf.Tensor:
        """Draws from the prior, [count, D]; `seed` is int32 [2]."""
        seeds = [fold_in(seed, i) for i in range(len(self.variables))]
        drawn = [term.p.distribution().sample(count, seed=own)  # type: ignore[union-attr]
                 for term, own in zip(self._terms, seeds, strict=False)]  # fmt: skip
        for loc, own in zip(self.free_locs, seeds[len(self._terms) :], strict=True):
            drawn.append(loc + FREE_SCALE * tf.random.stateless_normal([count, *loc.shape], own))
        return tf.concat([tf.reshape(values, [count, -1]) for values in drawn], axis=1)


def _terms_with_prior(model: BayesianModel) -> list[WeightTerm]:
    """The weights that are sampled."""
    terms = [term for layer in model.variational_layers for term in layer.weight_terms]
    if not all(term.q.is_point for term in terms):
        raise invalid(
            "network", "points for weights", "a posterior that is more", "Use tfbnn.layers.convert.as_points."
        )
    trained = {id(variable) for variable in model.network.trainable_variables}
    found = [term for term in terms if term.p is not None and id(_point(term)) in trained]
    if not found:
        mend = "Use layers of tfbnn, such as tfbnn.layers.DenseReparameterization, whose weights have priors."
        raise invalid("network", "a trainable weight or more that has a prior", "none", mend)
    return found


def _point(term: WeightTerm) -> keras.Variable:
    return term.q.loc  # type: ignore[attr-defined]


def _log_normal(value: tf.Tensor, loc: tf.Tensor) -> tf.Tensor:
    """log Normal(value; loc, FREE_SCALE^2), summed."""
    normaliser = math.log(FREE_SCALE) + 0.5 * math.log(2.0 * math.pi)
    return -tf.reduce_sum(0.5 * tf.square((value - loc) / FREE_SCALE) + normaliser)
