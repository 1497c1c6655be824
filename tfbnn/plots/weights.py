"""The posterior of the weights, a layer a panel."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfbnn.core.checks import invalid
from tfbnn.core.noise import seed_pair
from tfbnn.core.traversal import sublayers
from tfbnn.layers import VariationalLayer
from tfbnn.plots.base import BLUE, GREY, INK, panels

NUMBERS = 100_000  # of a layer, that are drawn
MOST_DRAWS = 200
BINS = 60
BEYOND = 0.002  # share of the numbers beyond each end of the axis


def plot_weights(model: Any, seed: int = 0) -> Any:
    """A panel a layer: weights drawn from the posterior, their means, and the prior, all weights of the kernel pooled.

    Where posterior and prior look alike, the data have told the layer nothing; where the posterior is a narrow peak at
    0 with tails, most of its weights could be removed.

    Args:
        model: a trained `BayesianModel`, or the draws of any method that draws weights.
        seed: of the draws.

    Returns:
        The Matplotlib figure.

    Raises:
        InvalidInput: where no weights have a posterior, or matplotlib is absent.

    Example:
        >>> plot_weights(model).savefig("weights.png")

    Reference: Blundell et al. 2015, "Weight Uncertainty in Neural Networks", figures 4 and 5.
    """
    layers = _of_layers(model, seed) or _of_drawn_variables(model, seed)
    if not layers:
        raise invalid("model", "a model, or draws, whose weights have a posterior", type(model).__name__)
    figure, axes = panels(len(layers), 3, 3.4, 2.6)
    for axis, (name, (posterior, prior)) in zip(axes, layers.items(), strict=True):
        low, high = np.quantile(posterior, [BEYOND, 1 - BEYOND])
        edges = np.linspace(low, high, BINS + 1)
        _histogram(axis, posterior, edges, label="posterior", color=BLUE, alpha=0.45, fill=True)
        _histogram(axis, posterior.mean(axis=0), edges, label="its means", color=INK, linewidth=0.9)
        if prior is not None:
            _histogram(axis, prior, edges, label="prior", color=GREY, linewidth=1.2, linestyle="--")
        axis.set_title(f"{name}: {posterior[0].size:,} weights", fontsize=9, loc="left")
        axis.set_yticks([])
        axis.set_ylim(0, 1.05)
    figure.supxlabel("weight", fontsize=9)
    figure.supylabel("density, each to its own peak", fontsize=9)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    return figure


def _histogram(axis: Any, values: np.ndarray, edges: np.ndarray, **style: Any) -> None:
    """Scaled to its own peak: the means lie so close that their density would dwarf the others."""
    count, _ = np.histogram(values, bins=edges)
    axis.stairs(count / max(count.max(), 1), edges, **style)


def _of_layers(model: Any, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """Layer -> [n, weights] of its q and of its prior."""
    found: dict[str, tuple[np.ndarray, np.ndarray | None]] = {}
    for layer in sublayers(getattr(model, "network", model)):
        terms = [term for term in getattr(layer, "weight_terms", ()) if not term.q.is_point]
        kernels = [term for term in terms if len(term.q.shape) > 1] or terms
        if isinstance(layer, VariationalLayer) and kernels:
            q, p = (_samples([getattr(term, part) for term in kernels], seed) for part in ("q", "p"))
            found[layer.name] = (q, p)
    return found


def _samples(parts: list[Any], seed: int) -> np.ndarray:
    distributions = [part.distribution() for part in parts]
    n = _number_of_draws(sum(int(np.prod(part.shape)) for part in parts))
    drawn = [one.sample(n, seed=seed_pair(seed)).numpy().reshape(n, -1) for one in distributions]
    return np.concatenate(drawn, axis=1)


def _number_of_draws(size: int) -> int:
    return max(2, min(MOST_DRAWS, NUMBERS // max(size, 1)))


def _of_drawn_variables(model: Any, seed: int) -> dict[str, tuple[np.ndarray, None]]:
    """Layer -> [n, weights] of the kernels that differ from draw to draw, in the first block of draws."""
    drawn = model.drawn(seed_pair(seed), tf.constant(0)) if hasattr(model, "drawn") else []
    kernels = [(variable.path.split("/")[-2], values.numpy()) for variable, values in drawn if len(variable.shape) > 1]
    return {name: (values.reshape(len(values), -1), None) for name, values in kernels}
