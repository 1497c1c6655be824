"""The Mahalanobis distance of rows from the classes, in the features of a network's trunk."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tfbnn.core.checks import invalid, positive_number
from tfbnn.core.draws import Draws
from tfbnn.likelihoods import Categorical
from tfbnn.prediction import NetworkDraws, predict_distribution

SMALLEST_VARIANCE = 1e-6  # of a feature, over the features' mean variance: units that never fire have none


def trunk(network: keras.Model) -> keras.Model:
    """The network up to the inputs of its last layer with weights, which it shares.

    Raises:
        InvalidInput: where it is neither sequential nor functional, that layer is its only one with weights, or it
            takes anything but features [B, F].
    """
    last = [layer for layer in getattr(network, "layers", []) if layer.weights][-1:]
    seen: list[Any] = []

    def call(layer, *args, **kwargs):
        if [layer] == last:
            seen.append(args[0])
        return layer(*args, **kwargs)

    try:
        functional = keras.Model(network.inputs, network.outputs)
        same = keras.models.clone_model(functional, clone_function=lambda layer: layer, call_function=call)
    except (AttributeError, TypeError, ValueError) as error:
        raise invalid("network", "a sequential or functional one", f"{network.name}: {error}") from None
    if len(seen) != 1 or len(seen[0].shape) != 2:
        expected = "a network whose last layer with weights is called once, on features [B, F]"
        raise invalid("network", expected, network.name)
    features = keras.Model(same.inputs, seen[0])
    if not features.weights:
        raise invalid("network", "two layers with weights or more: features come from all but the last", network.name)
    return features


class _TrunkDraws(NetworkDraws):
    """Draws of a network, asked for the features of its trunk."""

    def __init__(self, draws: NetworkDraws):
        features = trunk(draws.network)
        # Of the likelihoods, Categorical hands on what the network puts out as it is.
        super().__init__(features, Categorical(features.outputs[0].shape[-1]), draws.seed)
        self.num_draws = draws.num_draws
        self.__dict__["_whole"] = draws  # past Keras' tracking

    def drawn(self, seed, block):
        return self._whole.drawn(seed, block)


def trunk_features(draws: Draws, x: Any, num_samples: int | None = None, seed: int | None = None) -> np.ndarray:
    """h_s(x): what each draw's last layer with weights takes, float32 [S, B, F].

    One seed is the same S networks for all rows, whatever rows are asked for (the coupling is coherent), so that
    features of other rows may be compared with these. They need not be the draws of `predict_distribution`.

    Args:
        draws: of a sequential or functional network.
        x: rows, [B, ...].
        num_samples: S; None: as many as `predict_distribution` takes. A network of points needs 1.
        seed: None: the draws' own.

    Raises:
        InvalidInput: where the network has no such features.
    """
    if not isinstance(draws, NetworkDraws):
        raise invalid("draws", "draws of one network", type(draws).__name__)
    return predict_distribution(_TrunkDraws(draws), x, num_samples, seed, "coherent").parameters


class Mahalanobis:
    """min_k (h - m_k)^T C^-1 (h - m_k), averaged over draws: far from every class is unlike the training rows.

    m_k: mean of the features of class k; C = (1/N) sum_n (h_n - m_y(n)) (h_n - m_y(n))^T, one for all classes. Each
    draw has its own, because features of different networks have nothing in common.

    Args:
        means: [S, K, F].
        whitening: [S, F, F], W with W W^T = C^-1.

    Example:
        >>> distance = Mahalanobis.fit(trunk_features(draws, x_train, 5), y_train)
        >>> distance.score(trunk_features(draws, x, 5))       # [B], higher is further away

    Reference: Lee et al. 2018, "A simple unified framework for detecting out-of-distribution samples", equations 1, 2
    (without the noise added to inputs, and of the last features alone).
    """

    def __init__(self, means: Any, whitening: Any):
        self.means, self.whitening = np.asarray(means, np.float64), np.asarray(whitening, np.float64)
        shape = self.means.shape
        if len(shape) != 3 or self.whitening.shape != (shape[0], shape[2], shape[2]):
            expected = "means [S, K, F] and whitening [S, F, F]"
            raise invalid("means, whitening", expected, f"{shape} and {self.whitening.shape}")

    @classmethod
    def fit(cls, features: Any, y: Any, smallest_variance: float = SMALLEST_VARIANCE) -> Mahalanobis:
        """Fits class means and the shared covariance.

        Args:
            features: of training rows, [S, N, F].
            y: their classes, indices 0 ... K - 1, [N] or [N, 1]; each class has a row.
            smallest_variance: added to each feature's variance, as a share of the mean one.
        """
        features, y = _checked(features), np.asarray(y).reshape(-1)
        if len(y) != features.shape[1]:
            raise invalid("y", f"{features.shape[1]} classes, one a row", f"{len(y)}")
        classes, index = np.unique(y, return_inverse=True)
        if not np.array_equal(classes, np.arange(len(classes))):
            raise invalid("y", "class indices 0 ... K - 1, each with a row or more", classes)
        floor = positive_number("smallest_variance", smallest_variance)
        fitted = [_fit(h.astype(np.float64), index, len(classes), floor) for h in features]
        return cls(*(np.stack(parts) for parts in zip(*fitted, strict=True)))

    def score(self, features: Any) -> np.ndarray:
        """The squared distance from the nearest class, mean over draws: [S, B, F] -> float64 [B]."""
        features = _checked(features)
        S, _, F = self.means.shape
        if (features.shape[0], features.shape[2]) != (S, F):
            raise invalid("features", f"shape [{S}, B, {F}], of the draws that were fitted", list(features.shape))
        each = [_nearest(h @ W, m @ W) for h, m, W in zip(features, self.means, self.whitening, strict=True)]
        return np.mean(each, axis=0)

    def arrays(self) -> dict[str, np.ndarray]:
        """What `Mahalanobis(**arrays)` makes again, to be kept by `numpy.savez`."""
        return {"means": self.means, "whitening": self.whitening}


def _fit(h: np.ndarray, y: np.ndarray, num_classes: int, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """Class means [K, F] and whitening [F, F] of one draw's features [N, F]."""
    means = np.stack([h[y == k].mean(axis=0) for k in range(num_classes)])
    away = h - means[y]
    covariance = away.T @ away / len(h)
    mean_variance = np.trace(covariance) / len(covariance)
    if not mean_variance > 0.0:
        raise invalid("features", "features that differ between the rows of a class", "equal ones")
    covariance += floor * mean_variance * np.eye(len(covariance))
    values, vectors = np.linalg.eigh(covariance)
    return means, vectors / np.sqrt(values)


def _nearest(h: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Squared Euclidean distance [B] from the nearest of the means [K, F]."""
    return np.min([np.square(h - mean).sum(axis=1) for mean in means], axis=0)


def _checked(features: Any) -> np.ndarray:
    features = np.asarray(features)
    if features.ndim != 3 or not np.isfinite(features).all():
        raise invalid("features", "finite numbers [S, B, F], as `trunk_features` gives them", list(features.shape))
    return features
