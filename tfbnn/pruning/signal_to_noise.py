"""The signal-to-noise ratio of weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfbnn.pruning.base import weight_tensors


def signal_to_noise(model: Any, decibels: bool = False) -> dict[str, np.ndarray]:
    """|mu| / sigma of every weight: how many of its posterior's standard deviations its mean is from 0.

    log q(mu) - log q(0) = (mu / sigma)^2 / 2, nats: what setting the weight to 0 costs in posterior density.

    Args:
        model: a trained `BayesianModel` whose posteriors are factorised Gaussians.
        decibels: 20 log10(|mu| / sigma) instead; minus infinity for a weight of mean 0.

    Returns:
        `LAYER/TENSOR` -> float32 array of the tensor's shape. A weight that was pruned has 0.

    Raises:
        InvalidInput: where a layer has another posterior, which is named, or none has one.

    Example:
        >>> tfbnn.pruning.signal_to_noise(model)["hidden/kernel"].shape
        (784, 400)

    Reference: Graves 2011, section 6; Blundell et al. 2015, "Weight Uncertainty in Neural Networks", section 5.1.
    """
    ratios = {tensor.name: tensor.signal_to_noise() for tensor in weight_tensors(model)}
    return {name: _in_decibels(ratio) for name, ratio in ratios.items()} if decibels else ratios


def _in_decibels(ratio: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return 20.0 * np.log10(ratio)
