"""Means and covariances of the units of dense networks under a factorised Gaussian posterior, in closed form.

Letters: h are the inputs of a layer, [B, D]; y = h W + b and relu(y) its outputs, [B, U]; W ~ Normal(m, s^2) and
b ~ Normal(m_b, s_b^2) weight by weight.

Reference: Wu et al. 2019, "Deterministic Variational Inference for Robust Bayesian Neural Networks".
"""

from __future__ import annotations

import dataclasses
import math

import tensorflow as tf

_FAR = 30.0  # standard deviations from 0, beyond which relu is 0 or linear in float32
_TINY = 1e-30  # for sigma = 0
_SQRT_2_PI = math.sqrt(2.0 * math.pi)


@dataclasses.dataclass(frozen=True)
class Moments:
    """Of units that are random, row by row.

    Attributes:
        mean: float32 [B, D].
        variance: [B, D]; None: points.
        covariance: [B, D, D], its diagonal `variance`; None: units are independent.
    """

    mean: tf.Tensor
    variance: tf.Tensor | None = None
    covariance: tf.Tensor | None = None

    def full_covariance(self) -> tf.Tensor:
        """[B, D, D]."""
        if self.covariance is not None:
            return self.covariance
        return tf.linalg.diag(tf.zeros_like(self.mean) if self.variance is None else self.variance)


@dataclasses.dataclass(frozen=True)
class DenseWeights:
    """Means and variances of a kernel [D, U] and a bias [U], float32."""

    kernel: tf.Tensor
    kernel_variance: tf.Tensor
    bias: tf.Tensor
    bias_variance: tf.Tensor


def dense(h: Moments, w: DenseWeights, joint: bool = True) -> Moments:
    """Exact moments of y = h W + b, h and W independent.

    E y_k = sum_i m_ik E h_i + m_bk
    Cov(y_j, y_k) = sum_il m_ij Cov(h_i, h_l) m_lk + [j = k] (sum_i s_ij^2 E h_i^2 + s_bj^2)

    Args:
        h: inputs.
        w: weights.
        joint: whether the covariances between different y are wanted too.
    """
    mean = tf.matmul(h.mean, w.kernel) + w.bias
    squares = tf.square(h.mean) if h.variance is None else tf.square(h.mean) + h.variance
    own = tf.matmul(squares, w.kernel_variance) + w.bias_variance
    if h.variance is None:
        return Moments(mean, own)
    if not joint:
        return Moments(mean, own + _variances_through(h, w.kernel))
    through = _covariances_through(h, w.kernel)
    variance = own + tf.linalg.diag_part(through)
    return Moments(mean, variance, tf.linalg.set_diag(through, variance))


def _variances_through(h: Moments, m: tf.Tensor) -> tf.Tensor:
    """diag(m^T Cov(h) m), [B, U]."""
    if h.covariance is None:
        return tf.matmul(h.variance, tf.square(m))
    return tf.reduce_sum(tf.matmul(h.covariance, m) * m, axis=1)


def _covariances_through(h: Moments, m: tf.Tensor) -> tf.Tensor:
    """m^T Cov(h) m, [B, U, U]."""
    right = h.variance[..., tf.newaxis] * m if h.covariance is None else tf.matmul(h.covariance, m)  # type: ignore[index]
    D, U = m.shape
    by_input = tf.reshape(tf.transpose(right, [0, 2, 1]), [-1, D])  # one product for all rows
    return tf.reshape(tf.matmul(by_input, m), [-1, U, U])


def relu(y: Moments, terms: int = 3) -> Moments:
    """Moments of relu(y) of normal y; means and variances are exact.

    With a = E y / sigma, Phi and phi the standard normal's cdf and density,

    E relu(y) = sigma (a Phi + phi)
    Var relu(y) = sigma^2 (Phi + a^2 Phi(a) Phi(-a) + a phi (1 - 2 Phi) - phi^2)
    Cov(relu(y_j), relu(y_k)) = sum_n rho_jk^n / n! c_n(y_j) c_n(y_k), c_n = sigma^n E[relu^(n)(y)]:
        c_1 = sigma Phi, c_2 = sigma phi, c_3 = -sigma a phi, c_n = (-1)^n sigma He_(n - 2)(a) phi

    The series (Mehler's) is cut behind `terms`; what is left of a covariance is at most
    |rho|^(terms + 1) sqrt(r_j r_k), r = Var relu - sum_(n <= terms) c_n^2 / n!. What is cut stays a covariance: each
    term is positive semidefinite, and so is the rest of the diagonal, which is exact.

    Args:
        y: normal units.
        terms: 1 to 3 of the series.

    Reference: Mehler 1866; Slepian 1972; Wu et al. 2019, section 3.
    """
    sigma = tf.sqrt(y.variance)
    a = tf.clip_by_value(y.mean / tf.maximum(sigma, _TINY), -_FAR, _FAR)
    Phi, phi = _cdf(a), tf.exp(-0.5 * tf.square(a)) / _SQRT_2_PI
    mean = tf.maximum(y.mean * Phi + sigma * phi, 0.0)
    share = Phi + tf.square(a) * Phi * _cdf(-a) + a * phi * (1.0 - 2.0 * Phi) - tf.square(phi)
    variance = y.variance * tf.clip_by_value(share, 0.0, 1.0)
    if y.covariance is None:
        return Moments(mean, variance)
    c = [sigma * Phi, sigma * phi, -sigma * a * phi][:terms]
    covariance = _mehler(_correlation(y.covariance, sigma), c)
    return Moments(mean, variance, tf.linalg.set_diag(covariance, variance))


def _cdf(a: tf.Tensor) -> tf.Tensor:
    """Phi(a), with all its digits in the left tail too."""
    return 0.5 * tf.math.erfc(-a / math.sqrt(2.0))


def _correlation(covariance: tf.Tensor, sigma: tf.Tensor) -> tf.Tensor:
    """rho [B, U, U]; 0 where a unit has no variance."""
    inverse = tf.math.divide_no_nan(tf.ones_like(sigma), sigma)
    return covariance * inverse[:, :, tf.newaxis] * inverse[:, tf.newaxis, :]


def _mehler(rho: tf.Tensor, c: list[tf.Tensor]) -> tf.Tensor:
    """sum_n rho^n / n! c_n c_n^T, by Horner: rho (c_1 c_1^T + rho / 2 (c_2 c_2^T + rho / 3 (...)))."""
    total = tf.zeros_like(rho)
    for n in range(len(c), 0, -1):
        total = rho / n * (c[n - 1][:, :, tf.newaxis] * c[n - 1][:, tf.newaxis, :] + total)
    return total
