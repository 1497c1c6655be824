"""The named outputs of a prediction: the same in a SavedModel, a table and a CSV."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tfbnn.likelihoods import Likelihood
from tfbnn.prediction import decompose, mixture

REGRESSION = ("mean", "lower", "upper", "stddev", "epistemic_stddev", "aleatoric_stddev")
OF_DRAWS = ("mc_error",)
CALIBRATED = ("conformal_lower", "conformal_upper", "prediction_set")
DECIDED = ("action", "uncertainty", "abstain")
CLASSES = ("predicted_class", "probabilities", "predictive_entropy", "mutual_information", "expected_entropy")


def in_order(named: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs as people read them: the answer, then how sure it is (a SavedModel's come in any order)."""
    return {name: named[name] for name in (*REGRESSION, *CLASSES, *CALIBRATED, *DECIDED, *OF_DRAWS) if name in named}


def outputs(
    likelihood: Likelihood, parameters: tf.Tensor, level: float = 0.9, sequence: str = "independent"
) -> dict[str, tf.Tensor]:
    """What is told of each row, by name.

    Args:
        likelihood: what the parameters are of.
        parameters: [S, B, P'].
        level: share of the probability in the central interval, in (0, 1); regression only.
        sequence: how the draws go together, of `tfbnn.core.sequences`.

    Returns:
        Regression, each [B, T] in units of y: `mean`, `stddev`, `aleatoric_stddev`, `epistemic_stddev`, `lower`,
        `upper`. Classes: `probabilities` [B, K], `predicted_class` [B] (index), and `predictive_entropy`,
        `expected_entropy`, `mutual_information`, each [B], nats. Both: `mc_error`, the standard error of `mean` [B, T]
        or of `probabilities` [B, K] for having S draws and no more; NaN of one draw.
    """
    if likelihood.is_classifier:
        means, named = likelihood.class_probabilities(parameters), _of_classes(likelihood, parameters)
    else:
        means, named = likelihood.mean(parameters), _of_regression(likelihood, parameters, level)
    return in_order({**named, "mc_error": decompose.mc_error(means, sequence)})


def _of_regression(likelihood: Likelihood, parameters: tf.Tensor, level: float) -> dict[str, tf.Tensor]:
    moments = decompose.moments(likelihood, parameters)
    lower, upper = tf.unstack(mixture.quantile(likelihood, parameters, [0.5 - level / 2, 0.5 + level / 2]), num=2)
    return {
        "mean": moments.mean,
        "stddev": tf.sqrt(moments.variance),
        "aleatoric_stddev": tf.sqrt(moments.aleatoric_variance),
        "epistemic_stddev": tf.sqrt(moments.epistemic_variance),
        "lower": lower,
        "upper": upper,
    }


def _of_classes(likelihood: Likelihood, parameters: tf.Tensor) -> dict[str, tf.Tensor]:
    probabilities = decompose.class_probabilities(likelihood, parameters)
    return {
        "probabilities": probabilities,
        "predicted_class": tf.argmax(probabilities, axis=-1, output_type=tf.int32),
        **decompose.entropies(likelihood, parameters)._asdict(),
    }
