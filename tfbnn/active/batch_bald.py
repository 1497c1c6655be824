"""BatchBALD: the batch whose labels together tell most about the weights."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tfbnn.active.base import check_count, draw_probabilities, generator
from tfbnn.core.checks import positive_integer
from tfbnn.prediction import Prediction

MOST_NUMBERS = 2**22  # that are held at once beside the prediction


def batch_bald(prediction: Prediction, count: int, seed: int = 0, num_configurations: int = 10_000) -> np.ndarray:
    """Rows x_1 ... x_n whose labels together tell most about the weights, chosen one after another.

        I[y_1 ... y_n; w] = sum_i (H[y_i|y_1 ... y_(i-1)] - E_w H[y_i|w])

    So the gain of a row is H[y|labels of the rows chosen before] - E_w H[y|w], where the labels are averaged over: over
    all their K^(i-1) configurations while these are at most `num_configurations`, then over that many of them drawn
    from p(y_1 ... y_(i-1)). A second copy of a row gains little, where BALD would choose it again. A gain only falls
    while the batch grows (but for noise of drawn configurations), so that rows whose last gain is below the best new
    one are not looked at (Minoux 1978).

    Args:
        prediction: of classes, B rows, by draws with coupling "coherent": in each draw one network for all rows.
        count: n, rows to choose.
        seed: of the drawn configurations and the order of equal rows.
        num_configurations: most configurations of labels that are averaged over.

    Returns:
        Positions int [n], in the order of choice.

    Raises:
        InvalidInput: for a regression, or a count above B.

    Example:
        >>> prediction = model.predict_distribution(pool, coupling="coherent")
        >>> tfbnn.active.batch_bald(prediction, count=10)

    Reference: Kirsch, van Amersfoort & Gal 2019, "BatchBALD", equations 7 to 13.
    """
    positive_integer("num_configurations", num_configurations)
    check_count(count, prediction.num_rows)
    p = draw_probabilities(prediction)
    noise = _entropy(p).mean(axis=0)
    gain = np.full(prediction.num_rows, np.inf)
    rng = generator(seed)
    order = rng.permutation(prediction.num_rows)
    labels, chosen = _no_labels(len(p)), []
    while True:
        best = _best(p, noise, labels, gain, order)
        chosen.append(best)
        gain[best] = -np.inf
        if len(chosen) == count:
            return np.array(chosen)
        labels = _thinned(_extended(labels, p[:, best]), num_configurations, rng)


def joint_mutual_information(prediction: Prediction) -> float:
    """I[y_1 ... y_B; w] of all rows of a prediction of classes, nats, over all K^B configurations of their labels.

    Example:
        >>> tfbnn.active.joint_mutual_information(model.predict_distribution(pool[:3], coupling="coherent"))
    """
    p = draw_probabilities(prediction)
    labels, joint_entropy = _no_labels(len(p)), 0.0
    for b in range(prediction.num_rows):
        joint_entropy += float(_conditional_entropy(p[:, [b]], labels)[0])
        labels = _extended(labels, p[:, b])
    return joint_entropy - float(_entropy(p).mean(axis=0).sum())


class _Configurations(NamedTuple):
    """Configurations of the labels of the chosen rows: `weight` [C], sum 1, and `posterior` p(w_s|labels) [C, S]."""

    weight: np.ndarray
    posterior: np.ndarray


def _no_labels(S: int) -> _Configurations:
    return _Configurations(np.ones(1), np.full([1, S], 1.0 / S))


def _extended(labels: _Configurations, p: np.ndarray) -> _Configurations:
    """With each label of one more row, p [S, K], by Bayes' rule: p(w|y, labels) = p(y|w) p(w|labels) / p(y|labels)."""
    joint = labels.posterior[:, np.newaxis, :] * p.T  # [C, K, S]
    likelihood = joint.sum(axis=-1)
    weight = labels.weight[:, np.newaxis] * likelihood
    possible = weight > 0
    return _Configurations(weight[possible], joint[possible] / likelihood[possible][:, np.newaxis])


def _thinned(labels: _Configurations, most: int, rng: np.random.Generator) -> _Configurations:
    """At most `most` configurations: else that many, drawn by their weights (systematic resampling)."""
    if len(labels.weight) <= most:
        return labels
    edges = np.cumsum(labels.weight) / labels.weight.sum()
    drawn = np.minimum(np.searchsorted(edges, (np.arange(most) + rng.random()) / most), len(edges) - 1)
    return _Configurations(np.full(most, 1.0 / most), labels.posterior[drawn])


def _best(p: np.ndarray, noise: np.ndarray, labels: _Configurations, gain: np.ndarray, order: np.ndarray) -> int:
    """The row of the highest gain, H[y|labels] - E_w H[y|w].

    Args:
        p: [S, B, K].
        noise: E_w H[y|w] [B].
        labels: of the rows chosen before.
        gain: bounds from before [B]; renewed for the rows that are looked at.
        order: of equal gains.
    """
    C, K = len(labels.weight), p.shape[-1]
    step = max(1, MOST_NUMBERS // (C * K * 8))  # few at a time, because the bounds mostly leave few
    rows = order[np.argsort(-gain[order], kind="stable")]
    best, most = int(rows[0]), -np.inf
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        part = part[gain[part] > most]
        if not len(part):
            break
        gain[part] = _conditional_entropy(p[:, part], labels) - noise[part]
        top = part[gain[part].argmax()]
        if gain[top] > most:
            best, most = int(top), gain[top]
    return best


def _conditional_entropy(p: np.ndarray, labels: _Configurations) -> np.ndarray:
    """H[y|labels] of rows p [S, R, K]: the mean over configurations of the entropy given each; [R], nats."""
    S, R, K = p.shape
    given = (labels.posterior @ p.reshape(S, R * K)).reshape(-1, R, K)
    return labels.weight @ _entropy(given)


def _entropy(p: np.ndarray) -> np.ndarray:
    return -np.sum(p * np.log(np.maximum(p, 1e-300)), axis=-1)
