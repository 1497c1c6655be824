"""Conformal sets of classes."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfbnn.calibration.base import Conformal
from tfbnn.core.serialization import register


class _ConformalSet(Conformal):
    """`prediction_set` [B, K], bool: the classes told of each row."""

    of_classes = True

    def scores(self, prediction, y):
        badness = self._badness(tf.constant(prediction.probabilities, tf.float32)).numpy()
        return np.take_along_axis(badness, np.asarray(y, int).reshape(-1, 1), axis=1)[:, 0]

    def outputs(self, named):
        return {"prediction_set": self._badness(named["probabilities"]) <= self.fitted_threshold()}

    def _badness(self, probabilities: tf.Tensor) -> tf.Tensor:
        """s(x, k) of all classes, [B, K]."""
        raise NotImplementedError


@register
class LAC(_ConformalSet):
    """s(x, k) = 1 - p(k|x): the smallest sets on average; none of the classes where all are unlikely.

    An empty set says that no class fits so well as those of most calibration rows did.

    Args:
        level, threshold: of `Conformal`.

    Example:
        >>> conformal = tfbnn.calibration.LAC(0.9).fit(prediction, y)
        >>> conformal(new)["prediction_set"]

    Reference: Sadinle, Lei & Wasserman 2019, "Least ambiguous set-valued classifiers".
    """

    def _badness(self, probabilities):
        return 1.0 - probabilities


@register
class APS(_ConformalSet):
    """s(x, k) = sum of p(j|x) over all classes j more likely than k: sets that grow where the net is unsure.

    The likeliest class is always told, as its score is 0. Without the paper's random number for each row, because the
    same row shall get the same answer: coverage is `level` or more, and more where the likeliest class alone is right
    more often.

    Args:
        level, threshold: of `Conformal`.

    Example:
        >>> conformal = tfbnn.calibration.APS(0.9).fit(prediction, y)

    Reference: Romano, Sesia & Candes 2020, "Classification with valid and adaptive coverage", equation 5 with u = 1
    (the class that crosses the level is told).
    """

    def _badness(self, probabilities):
        others = probabilities[:, tf.newaxis, :]
        return tf.reduce_sum(tf.where(others > probabilities[:, :, tf.newaxis], others, 0.0), axis=-1)
