"""What is timed: the nets, their weights and rows, and which contestants do it.

A task, as a worker gets it (JSON):

    work       "predict": logits of S draws for all rows, or their mean probabilities, back as NumPy
               "train":   `epochs` epochs over all rows in batches, shuffled, by Adam; the loss is
                          KL / N - mean log likelihood, Normal(f, 1) or Categorical
    variant    which layers, coupling or loop of the package
    kind       "classes" or "regression"
    samples    S, draws (predict)
    batch      B, rows of a batch; the last one of an epoch may be smaller
    epochs     (train)
    layers     (inputs of one row, kernel) of each layer, for the bare matrix products (`limit.py`)
    arrays     .npz file: x [N, D] or [N, 28, 28, 1], y [N] whole numbers or [N, 1], and the weights (`serve.steps`)
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np


@dataclasses.dataclass(frozen=True)
class Work:
    """One table: the same net and rows for all contestants."""

    name: str
    title: str
    work: str
    kind: str
    kernels: tuple[tuple[int, ...], ...]
    rows: int
    batch: int
    samples: int = 0
    epochs: int = 0
    draws: int = 2000  # in the check of agreement

    @property
    def row(self) -> tuple[int, ...]:
        """The shape of one row of inputs."""
        return (28, 28, 1) if len(self.kernels[0]) == 4 else self.kernels[0][:1]

    @property
    def layers(self) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """(inputs of one row, kernel); the inputs of LeNet-5's convolutions are padded where they have to be."""
        images = {6: (32, 32, 1), 16: (14, 14, 6)}
        return [(images[kernel[-1]] if len(kernel) == 4 else kernel[:1], kernel) for kernel in self.kernels]

    @property
    def units(self) -> int:
        """By how much the seconds of a run are divided: the steps of training, or 1."""
        return 1 if self.work == "predict" else self.epochs * -(-self.rows // self.batch)

    @property
    def unit(self) -> str:
        """What one figure is the time of."""
        return "prediction" if self.work == "predict" else "training step"

    def task(self, variant: str, arrays: Path) -> dict:
        """What the worker is told."""
        told = {key: getattr(self, key) for key in ("work", "kind", "samples", "batch", "epochs")}
        return {**told, "variant": variant, "layers": self.layers, "arrays": str(arrays)}

    def arrays(self, seed: int = 0) -> dict[str, np.ndarray]:
        """Rows, targets and weights: He-scaled means, and a scale for each weight of its own."""
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(self.rows, *self.row)).astype(np.float32)
        made = {"x": x, "y": self._targets(rng, x)}
        for i, shape in enumerate(self.kernels):
            made[f"kernel_loc_{i}"] = rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape).astype(np.float32)
            made[f"kernel_scale_{i}"] = (wider(shape) * rng.uniform(0.03, 0.07, shape)).astype(np.float32)
            made[f"bias_loc_{i}"] = rng.normal(0, 0.1, shape[-1]).astype(np.float32)
            made[f"bias_scale_{i}"] = rng.uniform(0.03, 0.07, shape[-1]).astype(np.float32)
        return made

    def _targets(self, rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
        if self.kind == "classes":
            return rng.integers(0, self.kernels[-1][-1], self.rows).astype(np.int32)
        return (x[:, :1] + rng.normal(size=(self.rows, 1))).astype(np.float32)


def dense(*sizes: int) -> tuple[tuple[int, int], ...]:
    """The kernels of an MLP."""
    return tuple(itertools.pairwise(sizes))


def wider(kernel: tuple[int, ...]) -> float:
    """Convolutions have few inputs and wide means: as wide are their scales, or nobody would see their noise."""
    return float(np.sqrt(400 / np.prod(kernel[:-1]))) if len(kernel) == 4 else 1.0


MLP, TABLE = dense(784, 400, 400, 10), dense(8, 50, 1)
LENET = ((5, 5, 1, 6), (5, 5, 6, 16), *dense(400, 120, 84, 10))
WORKS = [
    Work("predict", "Prediction: MLP 784-400-400-10, B=128 rows, S=100 draws",
         "predict", "classes", MLP, rows=128, batch=128, samples=100),
    Work("one_row", "Prediction: MLP 784-400-400-10, one row, S=10,000 draws",
         "predict", "classes", MLP, rows=1, batch=1, samples=10_000),
    Work("lenet", "Prediction: LeNet-5, 28 x 28, B=64 rows, S=50 draws",
         "predict", "classes", LENET, rows=64, batch=64, samples=50, draws=4000),
    Work("step", "Training: MLP 784-400-400-10, batches of 128",
         "train", "classes", MLP, rows=1280, batch=128, epochs=2),
    Work("table", "Training: MLP 8-50-1, 1,000 rows, batches of 32",
         "train", "regression", TABLE, rows=1000, batch=32, epochs=10),
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Contestant:
    """One row of a table.

    works: the names of the works that it does. is_point: its weights are points, which predict their one pass.
    """

    name: str
    worker: str
    variant: str
    works: tuple[str, ...]
    is_point: bool = False


TRAIN, DENSE = ("step", "table"), ("predict", "step", "table")
REFERENCE = "Keras, no uncertainty"
LIMIT = "bare matrix products"
POINTS = "tfbnn.train, points in the same loop"
MARGINAL = "tfbnn, marginal"
EAGER = ("tfp.layers, DenseFlipout, eager loop", "tfp.layers, DenseFlipout, predict() loop")
CONTESTANTS = [
    Contestant(REFERENCE, "plain_keras", "net", ("predict", "one_row", "lenet", *TRAIN), is_point=True),
    Contestant(LIMIT, "plain_keras", "products", ("predict", "one_row", "lenet", *TRAIN)),
    Contestant(MARGINAL, "ours", "marginal", ("predict", "one_row", "lenet")),
    Contestant("tfbnn, coherent", "ours", "coherent", ("predict", "lenet")),
    Contestant(POINTS, "ours", "train", TRAIN, is_point=True),
    Contestant("tfbnn.train, DenseLocalReparameterization", "ours", "train LocalReparameterization", TRAIN),
    Contestant("tfbnn.train, DenseFlipout", "ours", "train Flipout", TRAIN),
    Contestant("tfbnn fit, DenseLocalReparameterization", "ours", "fit LocalReparameterization", TRAIN),
    Contestant("tfbnn fit, DenseFlipout", "ours", "fit Flipout", TRAIN),
    Contestant("tfp.layers, DenseLocalReparameterization", "tfp_layers", "LocalReparameterization", DENSE),
    Contestant("tfp.layers, DenseFlipout", "tfp_layers", "Flipout", DENSE),
    Contestant("tfp.layers, Convolution2DReparameterization", "tfp_layers", "Reparameterization", ("lenet",)),
    Contestant("tfp.layers, Convolution2DFlipout", "tfp_layers", "Flipout", ("lenet",)),
    Contestant(EAGER[0], "tfp_layers", "Flipout eager", ("predict",)),
    Contestant(EAGER[1], "tfp_layers", "Flipout predict()", ("predict",)),
    Contestant("bayesian-torch, LinearReparameterization", "bayesian_torch", "Reparameterization", DENSE),
    Contestant("bayesian-torch, LinearFlipout", "bayesian_torch", "Flipout", DENSE),
    Contestant("bayesian-torch, Conv2dReparameterization", "bayesian_torch", "Reparameterization", ("lenet",)),
    Contestant("bayesian-torch, Conv2dFlipout", "bayesian_torch", "Flipout", ("lenet",)),
    Contestant("blitz, BayesianLinear", "blitz", "", DENSE),
    Contestant("blitz, BayesianConv2d", "blitz", "", ("lenet",)),
]
WORKERS = list(dict.fromkeys(contestant.worker for contestant in CONTESTANTS))
ON_GPU = ("plain_keras", "ours")  # the peers' environments are of the CPU builds
