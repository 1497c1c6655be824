"""Closed forms and layers with known weights that tests of several parts share."""

import keras
import numpy as np


def softplus(rho):
    return np.log1p(np.exp(np.asarray(rho, np.float64)))


def kl_normal(loc, scale, prior_loc=0.0, prior_scale=1.0):
    """KL(N(loc, scale^2) || N(prior_loc, prior_scale^2)) an entry, float64, nats."""
    loc, scale = np.asarray(loc, np.float64), np.asarray(scale, np.float64)
    return np.log(prior_scale / scale) + (scale**2 + (loc - prior_loc) ** 2) / (2 * prior_scale**2) - 0.5


def kl_multivariate_normal(loc, covariance, prior_loc, prior_covariance):
    """KL(N(loc, covariance) || N(prior_loc, prior_covariance)), float64, nats."""
    precision = np.linalg.inv(prior_covariance)
    shift = np.asarray(prior_loc, np.float64) - loc
    log_determinants = np.linalg.slogdet(prior_covariance)[1] - np.linalg.slogdet(covariance)[1]
    return 0.5 * (np.trace(precision @ covariance) + shift @ precision @ shift - len(shift) + log_determinants)


def variable(layer, name):
    """The weight of `layer` called `name`."""
    return next(weight for weight in layer.weights if weight.name == name)


def randomised(layer, input_shape, seed=0):
    """Builds `layer` and gives it weights that are neither 0 nor equal."""
    rng = np.random.default_rng(seed)
    layer.build(input_shape)
    for weight in layer.trainable_weights:
        centre = -1.0 if "rho" in weight.name or "scale" in weight.name else 0.0
        weight.assign(centre + 0.5 * rng.standard_normal(weight.shape))
    return layer


def plain_model(layer, size=3):
    """A plain Keras model of one layer, compiled."""
    model = keras.Sequential([keras.Input((size,)), layer])
    model.compile("sgd", "mse")
    return model
