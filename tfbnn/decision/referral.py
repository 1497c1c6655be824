"""Selective prediction: the least certain rows are referred."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.stats import beta

from tfbnn.core.checks import check_share, finite_number, invalid
from tfbnn.core.serialization import register
from tfbnn.decision.base import OF_CLASSES, OF_NUMBERS, Decision, check_uncertainty, outputs_of, uncertainty_of
from tfbnn.prediction import Prediction

ALIKE = 1e-6  # relative difference of uncertainties that float32 does not tell


@register
class Referral(Decision):
    """Refers the rows whose uncertainty `by` is above `threshold`.

    Args:
        by: an output of the prediction: "predictive_entropy", "mutual_information", "expected_entropy" (nats) or
            "error_probability" of classes; "stddev", "epistemic_stddev" or "aleatoric_stddev" (units of y) of numbers.
        threshold: in its units, 0 or more.

    Example:
        >>> decision = tfbnn.decision.refer_share(prediction, 0.2)
        >>> decision(new)["abstain"]

    Reference: Chow 1970; Geifman & El-Yaniv 2017, "Selective classification for deep neural networks".
    """

    def __init__(self, by: str, threshold: float):
        if by not in (*OF_CLASSES, *OF_NUMBERS):
            raise invalid("by", f"one of {', '.join((*OF_CLASSES, *OF_NUMBERS))}", by)
        self.by = by
        self._threshold = finite_number("threshold", threshold, smallest=0.0)  # below it every row would be referred

    @property
    def threshold(self):
        return self._threshold

    def uncertainty(self, named):
        return uncertainty_of(named, self.by)

    def check(self, likelihood):
        check_uncertainty(self.by, likelihood)
        if likelihood.is_classifier and self.threshold >= (most := _largest(self.by, likelihood.num_classes)):
            expected = f"below {most:.4g}, the largest {self.by} that {likelihood.num_classes} classes have"
            raise invalid("threshold", expected, self.threshold, "No row would ever be referred.")


def _largest(by: str, num_classes: int) -> float:
    """Where all classes are as likely: of the error probability 1 - 1/K, of entropies log K nats."""
    return 1.0 - 1.0 / num_classes if by == "error_probability" else math.log(num_classes)


def refer_share(prediction: Prediction, share: float, by: str | None = None) -> Referral:
    """Refers about `share` of rows like those of `prediction`, the least certain.

    Args:
        prediction: of calibration rows.
        share: between 0 and 1.
        by: of `Referral`; None: `error_probability` of classes, `stddev` of numbers.

    Raises:
        InvalidInput: where rows are equally unsure, so that no threshold refers such a share.
    """
    by, found = _uncertainties(prediction, by)
    share = check_share("refer", share)
    threshold = float(np.quantile(found, 1.0 - share, method="inverted_cdf"))
    alike = np.isclose(found, threshold, rtol=ALIKE, atol=0.0)
    if not np.any(found[~alike] > threshold):
        told = f"{len(found)} rows, the least certain {np.mean(alike):.0%} of them equally unsure"
        raise invalid("refer", f"calibration rows of which {share:.0%} can be told from the others", told)
    if not np.any(found < threshold):
        told = f"{share:g} of {len(found)} calibration rows"
        raise invalid("refer", "a share that leaves a calibration row", told, "Every row would be referred.")
    return Referral(by, threshold)


def refer_for_risk(
    prediction: Prediction, y: Any, risk: float, by: str | None = None, confidence: float = 0.9
) -> Referral:
    """Refers as few rows as will do for an error rate of `risk` at most among the others.

    Of thresholds, k = ceil(log2(n + 1)) are tried by bisection. One will do where the upper Clopper-Pearson bound of
    the error rate, at confidence 1 - (1 - confidence) / k, is at most `risk`: all bounds then hold together with the
    confidence asked for.

    Args:
        prediction: of n calibration rows.
        y: their classes, [n].
        risk: wanted error rate of the rows that are not referred, between 0 and 1.
        by: of `Referral`; None: `error_probability`.
        confidence: with which the error rate of new rows is below `risk`, over calibration rows.

    Raises:
        InvalidInput: for numbers, or where only a threshold that refers everything would do.

    Reference: Geifman & El-Yaniv 2017, algorithm 1 (SGR).
    """
    if not prediction.likelihood.is_classifier:
        expected = "classes, whose errors can be counted"
        raise invalid("risk", expected, type(prediction.likelihood).__name__, "Give a share of rows to refer instead.")
    by, found = _uncertainties(prediction, by)
    risk, confidence = check_share("risk", risk), check_share("confidence", confidence)
    order = np.argsort(found, kind="stable")
    ordered = found[order]
    wrong = (prediction.probabilities.argmax(axis=1) != prediction.check_rows(y).reshape(-1))[order]
    kept = _most_kept(ordered, np.cumsum(wrong), risk, 1.0 - confidence)
    if not kept:
        error = f"error rate {np.mean(wrong):.3g} of {len(wrong)} calibration rows"
        mend = "Only a threshold that refers everything would do: allow more risk, or give more calibration rows."
        raise invalid("risk", "a risk that some rows can meet", f"{risk:g}; {error}", mend)
    return Referral(by, float(ordered[kept - 1]))


def fewest_rows(risk: float, confidence: float = 0.9) -> int:
    """n, calibration rows with fewer of which `refer_for_risk` refers everything, even where none was wrong.

    The bound of 0 errors among m is 1 - (delta / k)^(1 / m), delta = 1 - confidence and k = ceil(log2(n + 1)) tries, of
    which the first is of the surer half, m = floor(n / 2) + 1.

    Args:
        risk, confidence: of `refer_for_risk`.

    Example:
        >>> fewest_rows(0.1)
        80
    """
    n = 1
    while (half := math.ceil(math.log((1.0 - confidence) / _tries(n)) / math.log1p(-risk))) > n // 2 + 1:
        n = 2 * (half - 1)
    return n


def _most_kept(ordered: np.ndarray, errors: np.ndarray, risk: float, delta: float) -> int:
    """How many of the surest rows may be kept."""
    n = len(ordered)
    tries = _tries(n)
    low, high, kept = 1, n, 0
    while low <= high:
        middle = (low + high + 1) // 2
        told = int(np.searchsorted(ordered, ordered[middle - 1], side="right"))  # rows as unsure are kept with it
        if upper_bound(int(errors[told - 1]), told, delta / tries) <= risk:
            low, kept = told + 1, told
        else:
            high = middle - 1
    return kept


def _tries(n: int) -> int:
    return math.ceil(math.log2(n + 1))


def upper_bound(errors: int, n: int, delta: float) -> float:
    """The rate of which so few errors among n have probability delta (Clopper & Pearson 1934)."""
    return 1.0 if errors == n else float(beta.ppf(1.0 - delta, errors + 1, n - errors))


def _uncertainties(prediction: Prediction, by: str | None) -> tuple[str, np.ndarray]:
    default = "error_probability" if prediction.likelihood.is_classifier else "stddev"
    by = check_uncertainty(by or default, prediction.likelihood)
    return by, uncertainty_of(outputs_of(prediction), by).numpy()
