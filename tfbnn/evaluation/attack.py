"""Attacks: small changes of the inputs that lower the likelihood of what is predicted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnn.core.checks import finite_number, invalid, one_of, positive_integer, positive_number
from tfbnn.core.draws import Draws
from tfbnn.core.noise import COUPLINGS, check_seed
from tfbnn.prediction import mixture

ROWS_PER_CALL = 256  # the backward pass holds what every layer put out for each draw and row
DEFAULT_SAMPLES = 10


class Loss:
    """L(x, y) = -log (1/S) sum_s p(y|x, w_s), nats a row, of S fixed draws; and its derivative by x.

    It is the loss of the averaged prediction, which users get, and not the mean of the draws' losses.

    Args:
        draws: of any method, on one input [B, ...] of numbers.
        num_samples: S; None: 10, or all of a finite set that has fewer.
        seed: None: the draws' own stored seed.
        coupling: as `predict_distribution` takes it.

    Example:
        >>> loss, gradient = Loss(draws, num_samples=20)(x, y)    # [B], [B, ...]
    """

    def __init__(self, draws: Draws, num_samples: int | None = None, seed: int | None = None,
                 coupling: str = "marginal"):  # fmt: skip
        S = draws.at_most(DEFAULT_SAMPLES) if num_samples is None else positive_integer("num_samples", num_samples)
        if draws.at_most(S) < S:
            raise invalid("num_samples", f"at most {draws.num_draws}, the draws there are", S)
        seed = draws.seed if seed is None else check_seed("seed", seed)
        one_of("coupling", coupling, COUPLINGS)
        self.likelihood = draws.likelihood

        @tf.function(reduce_retracing=True, autograph=False, jit_compile=False)
        def with_gradient(x, y):
            with tf.GradientTape() as tape:
                tape.watch(x)
                parameters = draws.apply(x, tf.constant(seed), tf.constant(0), tf.constant(S), coupling)
                loss = -mixture.log_prob(draws.likelihood, parameters, y)
            return loss, tape.gradient(loss, x, unconnected_gradients="zero")  # rows do not touch each other

        self._with_gradient = with_gradient

    def __call__(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """L [B] and dL/dx [B, ...], float32."""
        parts = [slice(i, i + ROWS_PER_CALL) for i in range(0, len(x), ROWS_PER_CALL)]
        found = [self._with_gradient(tf.constant(x[part]), tf.constant(y[part])) for part in parts]
        losses, gradients = zip(*found, strict=True)
        return np.concatenate(losses), np.concatenate(gradients)


def fgsm(
    loss: Loss,
    x: Any,
    y: Any,
    radius: float,
    clip: tuple[float, float] | None = (0.0, 1.0),
    targeted: bool = False,
) -> np.ndarray:
    """The fast gradient sign method: x' = clip(x + radius sign(dL(x, y)/dx)).

    Args:
        loss: of the draws that are attacked.
        x: rows, [B, ...], inside `clip`.
        y: their targets, [B] or [B, T]; with `targeted`, those that the attacker wants to be predicted.
        radius: largest change of any number of x (L-infinity), in its units, 0 or more.
        clip: smallest and largest number that an input may be; None: any.
        targeted: whether the loss is lowered, towards y, and not raised.

    Returns:
        float32 [B, ...].

    Raises:
        InvalidInput: for rows, targets or a radius that do not fit.

    Example:
        >>> attacked = fgsm(Loss(draws), x, y, radius=0.1)
        >>> draws.predict_distribution(attacked).probabilities

    Reference: Goodfellow, Shlens & Szegedy 2015, section 4.
    """
    x, y = _checked(loss, x, y, clip)
    radius = finite_number("radius", radius, smallest=0.0)
    return _onto(x, radius, clip)(x + radius * _direction(loss, targeted)(x, y)[1])


def pgd(
    loss: Loss,
    x: Any,
    y: Any,
    radius: float,
    clip: tuple[float, float] | None = (0.0, 1.0),
    targeted: bool = False,
    steps: int = 20,
    step_size: float | None = None,
    random_start: bool = False,
    seed: int = 0,
) -> np.ndarray:
    """Projected gradient descent: x_t+1 = project(x_t + step_size sign(dL(x_t, y)/dx)), the worst of all x_t a row.

    Args:
        loss, x, y, radius, clip, targeted: as `fgsm` takes them.
        steps: of the gradient.
        step_size: in units of x; None: 2.5 radius / steps, by which each corner of the ball can be reached.
        random_start: whether x_0 is drawn uniformly from the ball, and is not x.
        seed: of that draw.

    Returns:
        float32 [B, ...].

    Raises:
        InvalidInput: as `fgsm` does, and for numbers of steps that cannot be.

    Example:
        >>> attacked = pgd(Loss(draws), x, y, radius=0.1, steps=40)

    Reference: Madry et al. 2018, "Towards deep learning models resistant to adversarial attacks", section 2.1.
    """
    x, y = _checked(loss, x, y, clip)
    radius, steps = finite_number("radius", radius, smallest=0.0), positive_integer("steps", steps)
    size = 2.5 * radius / steps if step_size is None else positive_number("step_size", step_size)
    project, direction = _onto(x, radius, clip), _direction(loss, targeted)
    present = x
    if random_start:
        noise = np.random.default_rng(check_seed("seed", seed)).uniform(-radius, radius, x.shape)
        present = project(x + noise.astype(np.float32))
    worst, highest = present, np.full(len(x), -np.inf, np.float32)
    for step in range(steps + 1):  # the last one only looks at what the step before it found
        height, sign = direction(present, y)
        better = height > highest
        worst, highest = np.where(_by_row(better, x), present, worst), np.where(better, height, highest)
        if step < steps:
            present = project(present + np.float32(size) * sign)
    return worst


ATTACKS: dict[str, Callable[..., np.ndarray]] = {"fgsm": fgsm, "pgd": pgd}


def _direction(loss: Loss, targeted: bool) -> Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """What the attacker raises [B], and the signs of its gradient: the loss, or minus that of the wanted targets."""

    def direction(x, y):
        value, gradient = loss(x, y)
        return (-value, -np.sign(gradient)) if targeted else (value, np.sign(gradient))

    return direction


def _onto(x: np.ndarray, radius: float, clip: tuple[float, float] | None) -> Callable[[np.ndarray], np.ndarray]:
    """The projection onto the ball about x, and into the range of inputs."""
    low, high = (-np.inf, np.inf) if clip is None else clip
    lower, upper = np.maximum(x - np.float32(radius), low), np.minimum(x + np.float32(radius), high)
    return lambda moved: np.clip(moved, lower, upper).astype(np.float32)


def _by_row(chosen: np.ndarray, x: np.ndarray) -> np.ndarray:
    """[B] -> [B, 1, ...], of the rank of x."""
    return chosen.reshape(-1, *[1] * (x.ndim - 1))


def _checked(loss: Loss, x: Any, y: Any, clip: tuple[float, float] | None) -> tuple[np.ndarray, np.ndarray]:
    x = np.asarray(x)
    if x.dtype.kind != "f" or x.ndim < 2 or not len(x) or not np.isfinite(x).all():
        raise invalid("x", "one array of finite floating-point numbers, [B, ...]", f"{x.dtype} of shape {x.shape}")
    loss.likelihood.check_target("y", np.asarray(y))
    targets = loss.likelihood.match_target(y).numpy()
    if len(targets) != len(x):
        raise invalid("y", f"{len(x)} rows, as x has", f"{len(targets)} rows")
    x = x.astype(np.float32)
    if clip is not None and not (clip[0] < clip[1] and clip[0] <= x.min() and x.max() <= clip[1]):
        raise invalid("clip", "a range (smallest, largest) that holds x, or None", clip)
    return x, targets
