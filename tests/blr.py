"""Bayesian linear regression in NumPy float64: the answers that every inference method must find.

    y = X w + noise,   w ~ Normal(0, prior_scale^2 I),   noise ~ Normal(0, noise_scale^2)

X holds a column of ones where there is a bias. All values are in nats.
"""

from __future__ import annotations

import dataclasses

import numpy as np

LOG_TWO_PI = float(np.log(2.0 * np.pi))


def log_normal(value: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> float:
    """log Normal(value; mean, covariance)."""
    chol = np.linalg.cholesky(covariance)
    whitened = np.linalg.solve(chol, value - mean)
    return float(-0.5 * whitened @ whitened - np.log(np.diag(chol)).sum() - 0.5 * len(value) * LOG_TWO_PI)


def kl(m0: np.ndarray, S0: np.ndarray, m1: np.ndarray, S1: np.ndarray) -> float:
    """KL( Normal(m0, S0) || Normal(m1, S1) )."""
    shift = m1 - m0
    inverse = np.linalg.inv(S1)
    log_volumes = np.linalg.slogdet(S1)[1] - np.linalg.slogdet(S0)[1]
    return float(0.5 * (np.trace(inverse @ S0) + shift @ inverse @ shift - len(m0) + log_volumes))


@dataclasses.dataclass(frozen=True)
class LinearRegression:
    """The model and its data.

    X: [N, D], y: [N]; noise_scale in units of y; prior_scale of each weight.
    """

    X: np.ndarray
    y: np.ndarray
    noise_scale: float
    prior_scale: float = 1.0

    @property
    def precision(self) -> np.ndarray:
        D = self.X.shape[1]
        return self.X.T @ self.X / self.noise_scale**2 + np.eye(D) / self.prior_scale**2

    @property
    def covariance(self) -> np.ndarray:
        """Of the exact posterior, [D, D]."""
        return np.linalg.inv(self.precision)

    @property
    def mean(self) -> np.ndarray:
        """Of the exact posterior, [D]."""
        return np.linalg.solve(self.precision, self.X.T @ self.y) / self.noise_scale**2

    def log_evidence(self) -> float:
        """log p(y|X), y ~ Normal(0, prior_scale^2 X X^T + noise_scale^2 I)."""
        N = len(self.y)
        covariance = self.prior_scale**2 * self.X @ self.X.T + self.noise_scale**2 * np.eye(N)
        return log_normal(self.y, np.zeros(N), covariance)

    def log_likelihood(self, w: np.ndarray) -> float:
        """log p(y|X, w)."""
        return self._log_likelihood_of_squares(float(((self.y - self.X @ w) ** 2).sum()))

    def log_prior(self, w: np.ndarray) -> float:
        """log p(w)."""
        return log_normal(w, np.zeros(len(w)), self.prior_scale**2 * np.eye(len(w)))

    def expected_log_likelihood(self, mean: np.ndarray, covariance: np.ndarray) -> float:
        """E_q[log p(y|X, w)], q = Normal(mean, covariance)."""
        residual = self.y - self.X @ mean
        squares = residual @ residual + np.trace(self.X @ covariance @ self.X.T)
        return self._log_likelihood_of_squares(float(squares))

    def log_likelihood_stddev(self, mean: np.ndarray, covariance: np.ndarray) -> float:
        """sqrt(Var_q log p(y|X, w)): what one Monte Carlo draw errs by."""
        XL = self.X @ np.linalg.cholesky(covariance)
        linear = XL.T @ (self.y - self.X @ mean)
        quadratic = XL.T @ XL
        return float(np.sqrt(4 * linear @ linear + 2 * (quadratic**2).sum()) / (2 * self.noise_scale**2))

    def kl_to_prior(self, mean: np.ndarray, covariance: np.ndarray) -> float:
        """KL(q || p)."""
        D = len(mean)
        return kl(mean, covariance, np.zeros(D), self.prior_scale**2 * np.eye(D))

    def elbo(self, mean: np.ndarray, covariance: np.ndarray) -> float:
        """E_q[log p(y|X, w)] - KL(q || p)."""
        return self.expected_log_likelihood(mean, covariance) - self.kl_to_prior(mean, covariance)

    def mean_field(self) -> tuple[np.ndarray, np.ndarray]:
        """(mean [D], variances [D]) of the best factorised Gaussian: variances 1 / precision_ii."""
        return self.mean, 1.0 / np.diag(self.precision)

    def mean_field_gap(self) -> float:
        """log evidence minus the best ELBO of a factorised Gaussian: (sum log precision_ii - log det precision) / 2."""
        return float(0.5 * (np.log(np.diag(self.precision)).sum() - np.linalg.slogdet(self.precision)[1]))

    def with_best_noise(self) -> LinearRegression:
        """The type-II maximum: the noise scale of the highest evidence, by golden section on its logarithm."""
        low, high = np.log(1e-3), np.log(1e3)
        ratio = (np.sqrt(5.0) - 1.0) / 2.0
        for _ in range(80):
            a, b = high - ratio * (high - low), low + ratio * (high - low)
            if self._evidence_at(a) > self._evidence_at(b):
                high = b
            else:
                low = a
        return dataclasses.replace(self, noise_scale=float(np.exp(0.5 * (low + high))))

    def _evidence_at(self, log_scale: float) -> float:
        return dataclasses.replace(self, noise_scale=float(np.exp(log_scale))).log_evidence()

    def _log_likelihood_of_squares(self, squares: float) -> float:
        N = len(self.y)
        return -0.5 * squares / self.noise_scale**2 - N * np.log(self.noise_scale) - 0.5 * N * LOG_TWO_PI


def example(N: int = 30, D: int = 3, noise_scale: float = 0.5, seed: int = 0) -> LinearRegression:
    """Correlated inputs and a column of ones, y drawn from the model; X and y are float32 numbers."""
    rng = np.random.default_rng(seed)
    inputs = 0.7 + rng.normal(size=(N, D)) + 1.5 * rng.normal(size=(N, 1))
    X = np.column_stack([inputs, np.ones(N)]).astype(np.float32).astype(np.float64)
    y = X @ rng.normal(size=D + 1) + noise_scale * rng.normal(size=N)
    return LinearRegression(X, y.astype(np.float32).astype(np.float64), noise_scale)
