"""Do the contestants draw from the same distribution? Against explicit draws of all weights in NumPy, and the KL."""

from __future__ import annotations

import dataclasses

import numpy as np

from benchmarks.peers.serve import Step, layers, steps

DRAWS = 2000
ERRORS = 5.0  # standard errors; of 20 figures a contestant, one in 80,000 contestants would exceed it by chance


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How far the worst output is from the truth, in standard errors."""

    mean: float
    stddev: float

    @property
    def reached(self) -> bool:
        """Both within `ERRORS`; NaN is not."""
        return self.mean <= ERRORS and self.stddev <= ERRORS

    def __str__(self) -> str:
        return f"means within {self.mean:.1f}, standard deviations within {self.stddev:.1f} standard errors"


def compare(got: np.ndarray, truth: np.ndarray) -> Agreement:
    """Two sets of independent draws [draws, P]."""
    if got.shape != truth.shape:
        raise ValueError(f"outputs {got.shape}, where {truth.shape} was expected")
    error_of_mean = np.sqrt(got.var(axis=0) / len(got) + truth.var(axis=0) / len(truth))
    error_of_stddev = np.hypot(_error_of_stddev(got), _error_of_stddev(truth))
    mean = np.abs(got.mean(axis=0) - truth.mean(axis=0)) / error_of_mean
    stddev = np.abs(got.std(axis=0) - truth.std(axis=0)) / error_of_stddev
    return Agreement(float(mean.max()), float(stddev.max()))


def compare_points(got: np.ndarray, truth: np.ndarray) -> Agreement:
    """A net without uncertainty [draws, P] against the pass at the means [P]; float32 sums differ by rounding alone."""
    error = 1e-4 * np.abs(truth).max()
    return Agreement(float(np.abs(got - truth).max() / error), float(got.std(axis=0).max() / error))


def explicit_draws(arrays: dict[str, np.ndarray], draws: int = DRAWS, seed: int = 1) -> np.ndarray:
    """Outputs [draws, P] of the first row, every weight drawn for every draw."""
    rng = np.random.default_rng(seed)
    return np.stack([_one_pass(arrays, rng) for _ in range(draws)])


def pass_at_the_means(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Outputs [P] of the first row, every weight at its mean."""
    return _one_pass(arrays, None)


def closed_form_kl(arrays: dict[str, np.ndarray]) -> float:
    """Sum over all weights of KL(Normal(m, s) || Normal(0, 1)) = -log s + (s^2 + m^2 - 1) / 2, nats."""
    total = 0.0
    for layer in layers(arrays):
        for name in ("kernel", "bias"):
            m, s = (layer[f"{name}_{part}"].astype(np.float64) for part in ("loc", "scale"))
            total += float(np.sum(-np.log(s) + (s**2 + m**2 - 1) / 2))
    return total


def _one_pass(arrays: dict[str, np.ndarray], rng: np.random.Generator | None) -> np.ndarray:
    x = arrays["x"][0]
    for step in steps(arrays):
        x = _step(step, x, rng)
    return x


def _step(step: Step, x: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
    """Of one row."""
    if step.kind == "flatten":
        return x.reshape(-1)
    if step.kind == "pooling":
        return _windows(x, 2)[::2, ::2].max(axis=(3, 4))
    kernel, bias = (_drawn(step.part, name, rng) for name in ("kernel", "bias"))
    x = x @ kernel + bias if step.kind == "dense" else _convolved(x, kernel, step.padding) + bias
    return np.maximum(x, 0) if step.relu else x


def _drawn(part: dict[str, np.ndarray], name: str, rng: np.random.Generator | None) -> np.ndarray:
    loc, scale = part[f"{name}_loc"], part[f"{name}_scale"]
    return loc if rng is None else loc + scale * rng.standard_normal(loc.shape, np.float32)


def _convolved(x: np.ndarray, kernel: np.ndarray, padding: str) -> np.ndarray:
    """y[h, w, f] = sum_ijc x[h + i, w + j, c] kernel[i, j, c, f]."""
    around = kernel.shape[0] // 2
    if padding == "same":
        x = np.pad(x, ((around, around), (around, around), (0, 0)))
    return np.tensordot(_windows(x, kernel.shape[0]), kernel, ([3, 4, 2], [0, 1, 2]))


def _windows(x: np.ndarray, size: int) -> np.ndarray:
    """[H', W', C, size, size] of x [H, W, C]."""
    return np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(0, 1))


def _error_of_stddev(draws: np.ndarray) -> np.ndarray:
    """sqrt((m4 - s^4) / n) / (2 s), for any shape of the distribution."""
    centred = draws - draws.mean(axis=0)
    variance, fourth = (centred**2).mean(axis=0), (centred**4).mean(axis=0)
    return np.sqrt((fourth - variance**2) / len(draws)) / (2 * np.sqrt(variance))
