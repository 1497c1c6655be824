"""BALD: rows whose label would tell most about the weights."""

from __future__ import annotations

import numpy as np

from tfbnn.prediction import Prediction


def bald(prediction: Prediction) -> np.ndarray:
    """I[y; w|x] = H[y|x] - E_w H[y|x, w]: draws are sure each, and disagree.

    Args:
        prediction: of classes, B rows.

    Returns:
        [B], nats.

    Example:
        >>> tfbnn.active.bald(model.predict_distribution(pool)).argmax()

    Reference: Houlsby et al. 2011, "Bayesian Active Learning for Classification and Preference Learning", equation 2.
    """
    return prediction.mutual_information
