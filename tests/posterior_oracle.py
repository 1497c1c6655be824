"""Whether a method's draws are those of a Gaussian over the weights of a linear regression that is known.

    network: f = x kernel + bias, all weights ~ Normal(0, 1);  y ~ Normal(f, noise_scale^2), noise_scale known

The weights of a draw are read from what it predicts (f at 0 and at the unit vectors, in one coherent draw), so that
every kind of `Draws` is asked in the same way. `blr.LinearRegression` tells the exact posterior.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np

import blr
import tfbnn

AT_MOST = 4.0  # standard errors; of some 20 numbers one errs so far in 1 of 800 correct runs


def network(regression: blr.LinearRegression, layer: Any = tfbnn.layers.DenseFlipout, **kwargs: Any) -> keras.Model:
    """x [B, D] -> f [B, 1]; prior Normal(0, prior_scale) on kernel and bias."""
    prior = tfbnn.priors.Normal(scale=regression.prior_scale)
    priors = {"kernel_prior_fn": prior, "bias_prior_fn": prior}
    return keras.Sequential([keras.Input((regression.X.shape[1] - 1,)), layer(1, seed=1, **{**priors, **kwargs})])


def likelihood(regression: blr.LinearRegression) -> tfbnn.likelihoods.Likelihood:
    """Normal, with the noise known."""
    return tfbnn.likelihoods.Normal(scale=regression.noise_scale)


def data(regression: blr.LinearRegression) -> tuple[np.ndarray, np.ndarray]:
    """x [N, D] without the column of ones, y [N]."""
    return regression.X[:, :-1].astype(np.float32), regression.y.astype(np.float32)


def weights(draws: tfbnn.Draws, num_features: int, num_samples: int | None = None) -> np.ndarray:
    """[S, D + 1]: kernel and bias of each draw."""
    probes = np.vstack([np.eye(num_features), np.zeros(num_features)]).astype(np.float32)
    num_samples = num_samples or draws.num_draws
    f = draws.predict_distribution(probes, num_samples, coupling="coherent").parameters[..., 0].astype(np.float64)
    return np.column_stack([f[:, :-1] - f[:, -1:], f[:, -1]])


@dataclasses.dataclass(frozen=True)
class Errors:
    """How far draws are from a Gaussian, in standard errors of what so many independent draws would tell: the worst."""

    mean: float
    covariance: float
    predictive_mean: float
    predictive_variance: float

    @property
    def worst(self) -> float:
        return max(self.mean, self.covariance, self.predictive_mean, self.predictive_variance)


def errors(
    draws: tfbnn.Draws,
    regression: blr.LinearRegression,
    mean: np.ndarray,
    covariance: np.ndarray,
    num_samples: int | None = None,
    effective: float | None = None,
) -> Errors:
    """Of `num_samples` draws (all of a finite set) against Normal(mean, covariance).

    Args:
        draws: of a method.
        regression: the problem.
        mean, covariance: [D + 1], [D + 1, D + 1]: the exact posterior, or a method's own known optimum.
        num_samples: S.
        effective: how many independent draws they are worth (Markov chains); None: S.
    """
    found = weights(draws, regression.X.shape[1] - 1, num_samples)
    size = len(found) if effective is None else effective
    variances = np.diag(covariance)
    of_mean = np.abs(found.mean(axis=0) - mean) / np.sqrt(variances / size)
    of_covariance = np.abs(np.cov(found.T) - covariance) / np.sqrt(
        (np.outer(variances, variances) + covariance**2) / size
    )
    at = far_and_near(regression)
    f, exact = found @ at.T, np.einsum("ij,jk,ik->i", at, covariance, at)
    of_f = np.abs(f.mean(axis=0) - at @ mean) / np.sqrt(exact / size)
    of_variance = np.abs(f.var(axis=0, ddof=1) - exact) / (exact * np.sqrt(2.0 / size))
    return Errors(of_mean.max(), of_covariance.max(), of_f.max(), of_variance.max())


def far_and_near(regression: blr.LinearRegression) -> np.ndarray:
    """Rows [4, D + 1] to predict: the data's mean, a row of it, and two far away."""
    centre = regression.X.mean(axis=0)
    far = np.ones_like(centre)
    far[:-1] = 10.0
    other = far.copy()
    other[0] = -10.0
    return np.stack([centre, regression.X[0], far, other])
