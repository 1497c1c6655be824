"""Conformal sets of classes."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfbnn.calibration.base import Conformal
from tfbnn.core.serialization import register


class _ConformalSet(Conformal):
    """`prediction_set` [B, K], bool: the classes told of each row; may be empty, which says that none fits."""

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
    """s(x, k) = sum of p(j|x) over all classes j at least as likely as k: sets that grow where the net is unsure.

    Without the random tie-breaking of the paper, because the same row shall get the same answer: coverage is `level` or
    more, and above it where one class alone has more than `level`.

    Args:
        level, threshold: of `Conformal`.

    Example:
        >>> conformal = tfbnn.calibration.APS(0.9).fit(prediction, y)

    Reference: Romano, Sesia & Candes 2020, "Classification with valid and adaptive coverage", u = 1.
    """

    def _badness(self, probabilities):
        others = probabilities[:, tf.newaxis, :]
        less_likely = tf.reduce_sum(tf.where(others < probabilities[:, :, tf.newaxis], others, 0.0), axis=-1)
        return 1.0 - less_likely  # not the sum itself, which would be about 1 for the least likely class, not 1
