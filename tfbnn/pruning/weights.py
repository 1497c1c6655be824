"""Removes weights: those whose posterior says least that they are not 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import pandas as pd

from tfbnn import posteriors
from tfbnn.core.checks import finite_number, invalid, one_of
from tfbnn.core.traversal import sublayers
from tfbnn.layers.convert import POSTERIOR, copied
from tfbnn.prediction import Prediction
from tfbnn.pruning.base import WeightTensor, check_share_removed, how_many, weight_tensors, with_network
from tfbnn.training import BayesianModel

SHARES = (0.0, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99)
COMPARED_OVER = ("network", "layer")
HIGHER_IS_BETTER = {"log_likelihood": True, "error": False}


def prune(model: BayesianModel, share: float, over: str = "network", biases: bool = False) -> BayesianModel:
    """A copy of the model in which that share of the weights is exactly 0 in every draw.

    Those of least |mu| / sigma are removed. A removed weight is 0 for certain, under q and under p: the KL of the copy
    counts only what is left. Training may go on; what is removed stays 0. The exported graph computes with the zeros:
    for one that is smaller see `prune_units`.

    Args:
        model: a trained `BayesianModel` whose posteriors are factorised Gaussians.
        share: of the weights, 0 or more and less than 1; weights that were pruned before count as removed.
        over: "network": one threshold for all weights; "layer": that share of each layer.
        biases: whether biases may be removed too, and count; unless told they are kept.

    Returns:
        A `BayesianModel` of posteriors `tfbnn.posteriors.Pruned`, compiled as the model was, with a new optimizer.

    Raises:
        InvalidInput: for a share outside [0, 1), a posterior that is no factorised Gaussian (named), a network that
            cannot be copied.

    Example:
        >>> smaller = tfbnn.pruning.prune(model, 0.95)
        >>> smaller.predict(x)

    Reference: Graves 2011, section 6; Blundell et al. 2015, section 5.1.
    """
    share = check_share_removed("share", share)
    ranked = weight_tensors(model)
    groups = _groups(ranked, one_of("over", over, COMPARED_OVER), biases)
    copy = _copy(model)
    _remove(copy, ranked, groups, share)
    return copy


def pruning_table(
    model: BayesianModel,
    x: Any,
    y: Any,
    shares: Sequence[float] = SHARES,
    num_samples: int = 100,
    over: str = "network",
    biases: bool = False,
    seed: int | None = None,
) -> pd.DataFrame:
    """How good the model is with fewer and fewer weights.

    Args:
        model, over, biases: as in `prune`.
        x, y: rows that were not trained on, [B, ...] and [B] or [B, T].
        shares: of the weights that are removed.
        num_samples: S, draws averaged over.
        seed: of the draws; None: the model's own. All rows of the table have the same noise.

    Returns:
        A row a share: `share`; `weights_left`; `log_likelihood`, nats a row; `error`: of classes the share that is
        misclassified, else the root mean squared error in units of y.

    Raises:
        InvalidInput: as `prune`, and for an empty list of shares.

    Example:
        >>> tfbnn.pruning.pruning_table(model, x_test, y_test, shares=(0.0, 0.9, 0.95))
    """
    if not len(list(shares)):
        raise invalid("shares", "one share or more", list(shares))
    shares = [check_share_removed("shares", share) for share in shares]
    ranked = weight_tensors(model)
    groups = _groups(ranked, one_of("over", over, COMPARED_OVER), biases)
    copy, rows = _copy(model), []
    for share in shares:
        left = _remove(copy, ranked, groups, share)
        prediction = copy.predict_distribution(x, num_samples, seed)
        rows.append({"share": share, "weights_left": left, **_scores(prediction, y)})
    return pd.DataFrame(rows)


def knee(table: pd.DataFrame, tolerance: float, score: str = "error") -> float:
    """The largest share whose score is worse than that of the smallest share by `tolerance` at most.

    Args:
        table: of `pruning_table`.
        tolerance: in units of the score, 0 or more.
        score: "error" or "log_likelihood".

    Raises:
        InvalidInput: for a negative tolerance, an unknown score, a table without rows.

    Example:
        >>> tfbnn.pruning.knee(table, tolerance=0.001)
        0.95
    """
    tolerance = finite_number("tolerance", tolerance, smallest=0.0)
    one_of("score", score, HIGHER_IS_BETTER)
    if not isinstance(table, pd.DataFrame) or not len(table) or score not in table:
        raise invalid("table", "what `pruning_table` returns", table)
    ordered = table.sort_values("share")
    worse = ordered[score] - ordered[score].iloc[0]
    worse = -worse if HIGHER_IS_BETTER[score] else worse
    return float(ordered["share"][worse <= tolerance + 1e-12].max())


def _groups(tensors: Sequence[WeightTensor], over: str, biases: bool) -> list[list[tuple[WeightTensor, np.ndarray]]]:
    """Weights that have one threshold: tensors, each with which of its weights may be removed."""
    eligible = [(tensor, np.full(tensor.q.shape, True) if biases else ~tensor.is_bias) for tensor in tensors]
    if over == "network":
        return [eligible]
    return [[pair for pair in eligible if pair[0].layer == number] for number in {t.layer for t in tensors}]


def _remove(copy: BayesianModel, ranked: Sequence[WeightTensor], groups: list, share: float) -> int:
    """Sets the masks of the copy; returns the number of weights, biases among them, that are left."""
    kept = {tensor.name: _kept_before(tensor) for tensor in ranked}
    for group in groups:
        for tensor, removed in _least(group, share):
            kept[tensor.name] &= ~removed
    for tensor in weight_tensors(copy):
        tensor.q.keep(kept[tensor.name])  # type: ignore[attr-defined]
    return int(sum(mask.sum() for mask in kept.values()))


def _kept_before(tensor: WeightTensor) -> np.ndarray:
    return np.full(tensor.q.shape, True) if tensor.q.kept is None else np.array(tensor.q.kept)


def _least(group: list[tuple[WeightTensor, np.ndarray]], share: float) -> list[tuple[WeightTensor, np.ndarray]]:
    """Each tensor with the mask of what is removed: exactly that share of the eligible, the first ones of equals."""
    ratios = np.concatenate([tensor.signal_to_noise()[eligible] for tensor, eligible in group])
    removed = np.zeros(len(ratios), bool)
    removed[np.argsort(ratios, kind="stable")[: how_many(share, len(ratios))]] = True
    ends = np.cumsum([eligible.sum() for _, eligible in group])[:-1]
    masks = []
    for (tensor, eligible), part in zip(group, np.split(removed, ends), strict=True):
        mask = np.zeros(tensor.q.shape, bool)
        mask[eligible] = part
        masks.append((tensor, mask))
    return masks


def _copy(model: BayesianModel) -> BayesianModel:
    """The same model with posteriors that can be pruned, nothing removed but what was removed before."""
    network = copied(model.network, change=_prunable)
    for variable, value in zip(_without_masks(network), _without_masks(model.network), strict=True):
        variable.assign(value)
    return with_network(model, network)


def _prunable(described: dict) -> dict:
    config = {key: _pruned(key, value) if key.endswith(POSTERIOR) and value is not None else value
              for key, value in described["config"].items()}  # fmt: skip
    return {**described, "config": config}


def _pruned(argument: str, described: Any) -> Any:
    posterior = keras.saving.deserialize_keras_object(described)
    if isinstance(posterior, posteriors.Pruned):
        return described
    if not isinstance(posterior, posteriors.Posterior):
        raise invalid(argument, "an object of tfbnn.posteriors, where weights are removed", posterior)
    return posteriors.serialize(posteriors.Pruned(posterior))


def _without_masks(network: keras.Model) -> list[keras.Variable]:
    posteriors_of = [q for layer in sublayers(network) for q in getattr(layer, "weight_posteriors", [])]
    masks = {id(getattr(q, "mask", None)) for q in posteriors_of}
    return [variable for variable in network.variables if id(variable) not in masks]


def _scores(prediction: Prediction, y: Any) -> dict[str, float]:
    log_likelihood = float(np.mean(prediction.log_prob(y)))
    if prediction.likelihood.is_classifier:
        wrong = prediction.probabilities.argmax(axis=1) != np.asarray(y).reshape(-1)
        return {"log_likelihood": log_likelihood, "error": float(np.mean(wrong))}
    squares = (prediction.mean - np.asarray(y, np.float64).reshape(prediction.mean.shape)) ** 2
    return {"log_likelihood": log_likelihood, "error": float(np.sqrt(np.mean(squares)))}
