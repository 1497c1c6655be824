"""Scores of how unsure a prediction is, a number a row: higher is less sure."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfbnn.core.checks import invalid, one_of, positive_number
from tfbnn.likelihoods import Categorical
from tfbnn.prediction import Prediction


def predictive_entropy(prediction: Prediction) -> np.ndarray:
    """H[y] = -sum_k p(k) log p(k) of the averaged probabilities: all uncertainty, nats, [B]; classes."""
    return prediction.predictive_entropy


def mutual_information(prediction: Prediction) -> np.ndarray:
    """I[y; w] = H[y] - E_w H[y|w]: how much the draws disagree, nats, [B]; classes.

    Reference: Houlsby et al. 2011 (BALD); Depeweg et al. 2018.
    """
    return prediction.mutual_information


def least_confidence(prediction: Prediction) -> np.ndarray:
    """1 - max_k p(k) of the averaged probabilities, [B]; classes. Of a plain net: the maximum softmax baseline.

    Reference: Hendrycks & Gimpel 2017.
    """
    return 1.0 - prediction.probabilities.max(axis=1)


def epistemic_variance(prediction: Prediction) -> np.ndarray:
    """Var_w E[y|w] summed over targets, in squared units of y; of classes sum_k Var_w p(k|w), in 0 ... 1; [B]."""
    if not prediction.likelihood.is_classifier:
        return np.square(prediction.epistemic_stddev).sum(axis=1)
    p = prediction.likelihood.class_probabilities(prediction.parameters).numpy()
    return (p - p[0]).var(axis=0).sum(axis=1)


def energy(prediction: Prediction, temperature: float = 1.0) -> np.ndarray:
    """-E_w [T log sum_k exp(f_k / T)] of the logits f, mean over draws, [B]; K classes.

    Args:
        prediction: of a Categorical likelihood.
        temperature: T.

    Returns:
        float32 [B], in units of logits; it may be below 0.

    Raises:
        InvalidInput: for other likelihoods: one logit for two classes tells a difference alone, and no energy.

    Reference: Liu et al. 2020, "Energy-based out-of-distribution detection", equation 3.
    """
    if not isinstance(prediction.likelihood, Categorical):
        mend = "Two classes have an energy as Categorical(2), whose two logits have a level."
        raise invalid("prediction", "one of a Categorical likelihood", type(prediction.likelihood).__name__, mend)
    T = positive_number("temperature", temperature)
    return -T * tf.reduce_logsumexp(prediction.parameters / T, axis=-1).numpy().mean(axis=0)


UNCERTAINTIES: dict[str, Callable[[Prediction], np.ndarray]] = {
    "predictive_entropy": predictive_entropy,
    "mutual_information": mutual_information,
    "least_confidence": least_confidence,
    "epistemic_variance": epistemic_variance,
    "energy": energy,
}


def uncertainty(prediction: Prediction, by: str = "mutual_information") -> np.ndarray:
    """The score of that name in `UNCERTAINTIES`, [B]: higher is less sure.

    Args:
        prediction: of B rows.
        by: "predictive_entropy" (all uncertainty), "mutual_information" (that of the weights), "least_confidence",
            "epistemic_variance" (of numbers too), or "energy".

    Raises:
        InvalidInput: for an unknown name, or a score that the likelihood does not have.

    Example:
        >>> suspicious = uncertainty(model.predict_distribution(x), by="mutual_information").argsort()[::-1]
    """
    return UNCERTAINTIES[one_of("by", by, UNCERTAINTIES)](prediction)
