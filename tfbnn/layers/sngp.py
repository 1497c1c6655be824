"""Networks that know their distance from the data: spectral normalisation and a Gaussian process at the end."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from tfbnn import priors
from tfbnn.core.checks import invalid, positive_integer, positive_number
from tfbnn.core.serialization import register
from tfbnn.layers.dense import DenseReparameterization

NORMALISED = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)


@register
class RandomFeatures(keras.layers.Layer):
    """phi(h) = sqrt(2 / M) cos(h W / l + b), W_ij ~ Normal(0, 1), b_j ~ Uniform(0, 2 pi), drawn once and fixed.

    phi(h)^T phi(g) is near exp(-|h - g|^2 / (2 l^2)), the nearer the more features: a linear layer behind it, with a
    Gaussian prior, is a Gaussian process. It costs M D numbers that are not trained.

    When: before a last layer that shall be a Gaussian process: `sngp`.
    Cost: M D numbers that are not trained, and one product.

    Args:
        features: M.
        length_scale: l, the distance of inputs at which functions are no longer alike.
        seed: of W and b; None: another at every construction.

    Inputs: [B, D]. Outputs: [B, M].

    Example:
        >>> tfbnn.layers.RandomFeatures(1024, length_scale=2.0)

    Reference: Rahimi & Recht 2007, "Random Features for Large-Scale Kernel Machines", algorithm 1.
    """

    def __init__(self, features: int = 1024, length_scale: float = 1.0, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.features = positive_integer("features", features)
        self.length_scale = positive_number("length_scale", length_scale)
        self.seed = seed
        self.input_spec = keras.layers.InputSpec(ndim=2)

    def build(self, input_shape):
        """Draws W [D, M] and b [M]."""
        of_kernel, of_phase = (None, None) if self.seed is None else (self.seed, self.seed + 1)
        normal = keras.initializers.RandomNormal(stddev=1.0, seed=of_kernel)
        phase = keras.initializers.RandomUniform(0.0, 2.0 * math.pi, seed=of_phase)
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], self.features), initializer=normal,
                                      trainable=False)  # fmt: skip
        self.phase = self.add_weight(name="phase", shape=(self.features,), initializer=phase, trainable=False)

    def call(self, inputs):
        """[B, D] -> [B, M]."""
        h = tf.matmul(inputs, tf.cast(self.kernel, inputs.dtype)) / self.length_scale
        return math.sqrt(2.0 / self.features) * tf.cos(h + tf.cast(self.phase, inputs.dtype))

    def compute_output_shape(self, input_shape):
        """[B, D] -> [B, M]."""
        return (*input_shape[:-1], self.features)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "features": self.features,
            "length_scale": self.length_scale,
            "seed": self.seed,
        }


def sngp(
    trunk: keras.Model,
    num_outputs: int,
    features: int = 1024,
    length_scale: float = 1.0,
    prior_scale: float = 1.0,
    seed: int | None = None,
) -> keras.Model:
    """A spectral-normalised neural Gaussian process: f(x) = beta^T phi(h(x)), h a trunk that keeps distances.

    The kernels of the trunk's dense and convolutional layers are kept at spectral norm 1 while it is trained, so that
    inputs that are far apart stay so, most of all where the trunk has skip connections; away from the data f is as
    unsure as its prior. The network is one of points: train it and find the posterior of beta, in one pass after
    training, by `tfbnn.inference.Laplace(network, likelihood, weights="last")`; the trunk then runs once for all draws.

    Args:
        trunk: a plain, built Keras model, [B, ...] -> [B, H]; sequential or functional. It is not changed.
        num_outputs: P, what the likelihood needs.
        features: M, random features of the process.
        length_scale: l of its kernel, in units of h.
        prior_scale: standard deviation of f before any data; beta ~ Normal(0, prior_scale^2 I).
        seed: of the features and of beta's beginning.

    Returns:
        The network [B, ...] -> [B, P].

    Raises:
        InvalidInput: where the trunk is not built, or puts out no rows [B, H].

    Example:
        >>> network = tfbnn.layers.sngp(trunk, num_outputs=10)
        >>> method = tfbnn.inference.Laplace(network, tfbnn.likelihoods.Categorical(10), weights="last")
        >>> draws = method.fit(x, y, epochs=20)

    Reference: Liu et al. 2020, "Simple and Principled Uncertainty Estimation with Deterministic Deep Learning via
    Distance Awareness", algorithm 1; the curvature is Laplace's of all classes, theirs of each alone.
    """
    if not isinstance(trunk, keras.Model) or not trunk.built or len(trunk.outputs or []) != 1:
        raise invalid("trunk", "a sequential or functional model that is built, with one output", trunk)
    if len(trunk.outputs[0].shape) != 2:
        shape = tuple(trunk.outputs[0].shape)
        raise invalid("trunk", "outputs [B, H]", shape, "End it with Flatten or a global pooling.")
    normalised = keras.models.clone_model(trunk, clone_function=_normalised)
    normalised(keras.Input(batch_shape=trunk.inputs[0].shape, dtype=trunk.inputs[0].dtype))
    _give_weights(trunk, normalised)
    h = RandomFeatures(features, length_scale, seed, name="features")(normalised.outputs[0])
    prior = priors.Normal(0.0, positive_number("prior_scale", prior_scale))
    beta = DenseReparameterization(
        num_outputs,
        use_bias=False,
        kernel_posterior_fn="Deterministic",
        kernel_prior_fn=prior,
        seed=seed,
        name="process",
    )
    return keras.Model(normalised.inputs, beta(h), name="sngp")


def _normalised(layer: keras.layers.Layer) -> keras.layers.Layer:
    if isinstance(layer, keras.Model):  # nested
        return keras.models.clone_model(layer, clone_function=_normalised)
    same = type(layer).from_config(layer.get_config())
    if isinstance(layer, NORMALISED):
        return keras.layers.SpectralNormalization(same, name=layer.name)
    kept = isinstance(layer, keras.layers.SpectralNormalization | keras.layers.Embedding)
    if not kept and any(len(variable.shape) > 1 for variable in getattr(layer, "trainable_variables", [])):
        expected = "a trunk whose kernels are those of Dense and Conv layers, which are kept at norm 1"
        mend = "Put keras.layers.SpectralNormalization around it, where Keras can, or choose another layer."
        raise invalid("trunk", expected, f"{layer.name}, a {type(layer).__name__}", mend)
    return same


def _give_weights(old: keras.Model, new: keras.Model) -> None:
    for theirs, ours in zip(old.layers, new.layers, strict=True):
        if isinstance(theirs, keras.Model):
            _give_weights(theirs, ours)
        elif theirs.weights:
            (ours.layer if isinstance(theirs, NORMALISED) else ours).set_weights(theirs.get_weights())
