"""Estimators of E_q[f(op(x, w))]: how one forward pass draws the weights.

Each is a function (op, x, q, noise) -> y.

    op: bilinear in (x, w). x is a list [inputs, ones] and w a list [kernel, bias], or [inputs], [kernel] without a
        bias: the bias is the kernel of one more input, the constant 1, so that it has noise as the others have.
    x: the list of inputs; inputs are [B, ..., D], ones broadcast against them, or are None for the constant 1.
    q: the list of `WeightPosterior`s, one for each tensor of w.
    noise: `tfbnn.core.noise.Noise` of the layer.
    y: [B, ..., U].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfbnn.core.checks import invalid
from tfbnn.core.noise import Noise

if TYPE_CHECKING:
    from tfbnn.posteriors import WeightPosterior

Op = Callable[[Sequence[tf.Tensor], Sequence[tf.Tensor]], tf.Tensor]
Estimator = Callable[..., tf.Tensor]

TINY = 1e-30  # keeps the gradient of a square root finite where a row's variance is 0


def reparameterization(op: Op, x: Sequence[tf.Tensor], q: Sequence[WeightPosterior], noise: Noise) -> tf.Tensor:
    """y = op(x, w), w = T(eps): one draw of the weights serves all rows.

    Reference: Kingma & Welling 2014; Blundell 2015, section 3.2.
    """
    return op(x, [posterior.sample(noise) for posterior in q])


def local_reparameterization(op: Op, x: Sequence[tf.Tensor], q: Sequence[WeightPosterior], noise: Noise) -> tf.Tensor:
    """y = op(x, loc) + sqrt(op(x^2, scale^2)) eps: the noise is drawn on the outputs, for each row its own.

    Exact in distribution for each row where q is a factorised Gaussian and each weight meets the row once.

    Reference: Kingma, Salimans & Welling 2015, equation 6.
    """
    loc, variance = noise.shared("moments", lambda: _moments(q))
    mean, stddev = noise.shared("outputs", lambda: _moments_of_outputs(op, x, loc, variance), of=x)
    return noise.normal_around("outputs", mean, stddev)


def flipout(op: Op, x: Sequence[tf.Tensor], q: Sequence[WeightPosterior], noise: Noise) -> tf.Tensor:
    """y = op(x, loc) + r op(s x, w - loc): one draw of the weights, turned by each row's random signs r and s.

    Rows become uncorrelated while one draw is made; right for posteriors symmetric about loc in each weight.

    Reference: Wen et al. 2018, equation 4.
    """
    loc, _ = noise.shared("gaussian", lambda: _gaussian(q))
    perturbation = [posterior.sample(noise) - mean for posterior, mean in zip(q, loc, strict=True)]
    flipped = [_flipped(noise, f"signs_in_{i}", x[0], part) for i, part in enumerate(x)]
    mean = op(x, loc)
    return mean + _flipped(noise, "signs_out", x[0], op(flipped, perturbation))


def _gaussian(q: Sequence[WeightPosterior]) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    gaussians = [posterior.factorised_gaussian for posterior in q]
    return [loc for loc, _ in gaussians], [scale for _, scale in gaussians]  # type: ignore[misc]


def _moments(q: Sequence[WeightPosterior]) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    loc, scale = _gaussian(q)
    *variance, last = [tf.square(s) for s in scale]
    return loc, [*variance, last + TINY]  # of a bias, where there is one


def _moments_of_outputs(op: Op, x: Sequence[Any], loc: Any, variance: Any) -> tuple[tf.Tensor, tf.Tensor]:
    mean, squares = op(x, loc), op(_squares(x), variance)
    if len(x) == 1:  # without the constant 1, a row of zeros has no variance
        squares = tf.maximum(squares, TINY)
    return mean, tf.cast(tf.sqrt(squares), mean.dtype)


def _squares(x: Sequence[Any]) -> list[Any]:
    return [None if part is None else _square(part) for part in x]


def _square(x: tf.Tensor) -> tf.Tensor:
    # float16 ends at 65,504 and 6e-8: squares of inputs and of scales leave that range
    return tf.square(tf.cast(x, tf.float32) if x.dtype == tf.float16 else x)


def _flipped(noise: Noise, name: str, inputs: tf.Tensor, part: tf.Tensor | None) -> tf.Tensor:
    """`part` times signs [B, 1, ..., channels]: the same at all positions of a row, which meet the same weights."""
    like = inputs[..., :1] if part is None else part
    rows = tf.shape(inputs)[0] if inputs.shape[0] is None else inputs.shape[0]  # static wherever it can be
    shape = [rows, *[1] * (len(like.shape) - 2), like.shape[-1]]
    signs = tf.cast(noise.rademacher(name, shape), like.dtype)
    return signs if part is None else signs * part


def check_factorised(q: Sequence[WeightPosterior], estimator: str) -> None:
    """Raises where `estimator` would be statistically wrong for a posterior that is no factorised Gaussian."""
    for posterior in q:
        if posterior.factorised_gaussian is None:
            raise invalid(
                f"{posterior.name}_posterior_fn",
                f"a factorised Gaussian posterior (MeanField), which {estimator} needs to be right",
                type(posterior.distribution()).__name__,
                "Use DenseReparameterization or DenseVariational, which are right for every posterior.",
            )
