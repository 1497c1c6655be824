"""Calibration of class probabilities: whether what is told with probability p happens in a share p of the rows."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfbnn.core.checks import one_of
from tfbnn.evaluation.base import expected_distance
from tfbnn.prediction.reliability import BINNINGS, BINS, Reliability, bin_numbers, binned, check_classes, reliability

SCHEMES = (*BINNINGS, "classwise")


def expected_calibration_error(
    probabilities: Any, y: Any, bins: int = BINS, scheme: str = "equal_width", debiased: bool = False
) -> float:
    """ECE = sum_b (n_b / N) |freq_b - conf_b|, a probability; 0 is best.

    Few rows a bin make it too large, even for a perfect model, as |.| turns their noise into error. `debiased` takes
    off what noise adds, with freq_b ~ Normal(freq_b, freq_b (1 - freq_b) / n_b):

        ECE - (E[ECE of noisy freq] - ECE) = sum_b (n_b / N) (2 |d_b| - E|Normal(d_b, v_b)|),  d_b = freq_b - conf_b

    with the expectation, which the paper's authors sample, in closed form. It may fall below 0 by chance; bins in
    which all or none happened have v_b = 0 and keep their bias.

    Args:
        probabilities: [B, K], or [B] for y = 1.
        y: [B], class indices.
        bins: M.
        scheme: "equal_width" (Guo) and "adaptive" (equally many rows a bin) of the likeliest class's probability;
            "classwise": the mean over the classes k of the ECE of p_k, equal width (Nixon's static calibration error).
        debiased: whether the bias is taken off.

    Raises:
        InvalidInput: for shapes that do not fit, values that are no probabilities or no classes, an unknown scheme.

    Example:
        >>> expected_calibration_error(prediction.probabilities, y, scheme="adaptive", debiased=True)

    Reference: Guo et al. 2017, equation 3; Nixon et al. 2019, section 3; Kumar, Liang & Ma 2019, "Verified Uncertainty
    Calibration", section 5 and its authors' code for the 1-norm.
    """
    one_of("scheme", scheme, SCHEMES)
    if scheme != "classwise":
        return _error(reliability(probabilities, y, bins, scheme), debiased)
    probabilities, y = _each_class(probabilities, y)
    happened = _one_hot(probabilities, y)
    return float(
        np.mean([_error(binned(p, o, bins), debiased) for p, o in zip(probabilities.T, happened.T, strict=True)])
    )


def _each_class(probabilities: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """[B, K] and [B]."""
    probabilities, y = check_classes(probabilities, y)
    if probabilities.ndim == 1:
        probabilities = np.stack([1.0 - probabilities, probabilities], axis=1)
    return probabilities, y


def _one_hot(probabilities: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.eye(probabilities.shape[1])[y]


def _error(found: Reliability, debiased: bool) -> float:
    error = np.abs(found.gap)
    if debiased:
        v = found.frequency * (1.0 - found.frequency) / found.count
        error = 2.0 * error - expected_distance(found.gap, v)
    return float(np.sum(found.share * error))


@dataclasses.dataclass(frozen=True)
class BrierDecomposition:
    """The parts of the Brier score: brier = uncertainty - resolution + reliability + within_bins, exactly.

    Attributes:
        uncertainty: of the classes themselves, sum_k o_k (1 - o_k): no model changes it.
        resolution: sum_b (n_b / N) (freq_b - o)^2: how far bins differ from the average; higher is better.
        reliability: sum_b (n_b / N) (conf_b - freq_b)^2: miscalibration; lower is better.
        within_bins: what bins hide, (1/N) sum_b sum_(i in b) (p_i - conf_b)^2 - 2 (p_i - conf_b) (o_i - freq_b):
            variance of the probabilities within the bins less twice their covariance with what happened.
        brier: the score itself, mean squared distance of the probabilities from the one-hot class.
    """

    uncertainty: float
    resolution: float
    reliability: float
    within_bins: float
    brier: float


def brier_decomposition(
    probabilities: Any, y: Any, bins: int = BINS, scheme: str = "equal_width"
) -> BrierDecomposition:
    """The parts of the Brier score, each the sum over the classes k of that of p_k against 1[y = k].

    Args:
        probabilities: [B, K], or [B] for y = 1, which is taken as [1 - p, p].
        y: [B], class indices.
        bins: M, of each class.
        scheme: "equal_width" or "adaptive".

    Returns:
        The `BrierDecomposition`, five numbers of the Brier score's unit.

    Raises:
        InvalidInput: for shapes that do not fit, values that are no probabilities or no classes, an unknown scheme.

    Example:
        >>> brier_decomposition(prediction.probabilities, y).reliability

    Reference: Murphy 1973, equation 6; Stephenson, Coelho & Jolliffe 2008, "Two Extra Components in the Brier Score
    Decomposition", equation 5.
    """
    probabilities, y = _each_class(probabilities, y)
    pairs = zip(probabilities.T, _one_hot(probabilities, y).T, strict=True)
    return BrierDecomposition(*np.sum([_parts(p, o, bins, scheme) for p, o in pairs], axis=0).tolist())


def _parts(p: np.ndarray, o: np.ndarray, bins: int, scheme: str) -> tuple[float, ...]:
    """The five numbers for one class: its probabilities p [B], and whether it was it, o [B]."""
    found, number = binned(p, o, bins, scheme), bin_numbers(p, bins, scheme)
    own = np.searchsorted(np.unique(number), number)
    above, more = p - found.confidence[own], o - found.frequency[own]
    return (
        o.mean() * (1.0 - o.mean()),
        float(np.sum(found.share * (found.frequency - o.mean()) ** 2)),
        float(np.sum(found.share * found.gap**2)),
        float(np.mean(above**2 - 2.0 * above * more)),
        float(np.mean((p - o) ** 2)),
    )
