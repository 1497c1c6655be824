"""What is timed: the nets, their weights and rows, and which contestants do it.

A task, as a worker gets it (JSON):

    work       "predict": logits of S draws for all rows, or their mean probabilities, back as NumPy
               "train":   `epochs` epochs over all rows in batches, shuffled, by Adam; the loss is
                          KL / N - mean log likelihood, Normal(f, 1) or Categorical
    variant    which layer, coupling or loop of the package
    kind       "classes" or "regression"
    samples    S, draws (predict)
    batch      B, rows of a batch; the last one of an epoch may be smaller
    epochs     (train)
    arrays     .npz file: x [N, D], y [N] whole numbers or [N, 1], and the weights (see `serve.layers`)
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np


@dataclasses.dataclass(frozen=True)
class Work:
    """One table: the same net and rows for all contestants."""

    name: str
    title: str
    work: str
    kind: str
    sizes: tuple[int, ...]
    rows: int
    batch: int
    samples: int = 0
    epochs: int = 0

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
        return {**told, "variant": variant, "arrays": str(arrays)}

    def arrays(self, seed: int = 0) -> dict[str, np.ndarray]:
        """Rows, targets and weights: He-scaled means, and a scale for each weight of its own."""
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(self.rows, self.sizes[0])).astype(np.float32)
        made = {"x": x, "y": self._targets(rng, x)}
        for i, shape in enumerate(zip(self.sizes, self.sizes[1:], strict=False)):
            made[f"kernel_loc_{i}"] = rng.normal(0, np.sqrt(2 / shape[0]), shape).astype(np.float32)
            made[f"kernel_scale_{i}"] = rng.uniform(0.03, 0.07, shape).astype(np.float32)
            made[f"bias_loc_{i}"] = rng.normal(0, 0.1, shape[1]).astype(np.float32)
            made[f"bias_scale_{i}"] = rng.uniform(0.03, 0.07, shape[1]).astype(np.float32)
        return made

    def _targets(self, rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
        if self.kind == "classes":
            return rng.integers(0, self.sizes[-1], self.rows).astype(np.int32)
        return (x[:, :1] + rng.normal(size=(self.rows, 1))).astype(np.float32)


WORKS = [
    Work("predict", "Prediction: MLP 784-400-400-10, B=128 rows, S=100 draws",
         "predict", "classes", (784, 400, 400, 10), rows=128, batch=128, samples=100),
    Work("step", "Training: MLP 784-400-400-10, batches of 128",
         "train", "classes", (784, 400, 400, 10), rows=1280, batch=128, epochs=2),
    Work("table", "Training: MLP 8-50-1, 1,000 rows, batches of 32",
         "train", "regression", (8, 50, 1), rows=1000, batch=32, epochs=10),
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Contestant:
    """One row of a table."""

    name: str
    worker: str
    variant: str
    works: tuple[str, ...] = ("predict", "train")


REFERENCE = "Keras, no uncertainty"
CONTESTANTS = [
    Contestant(REFERENCE, "plain_keras", "Dense"),
    Contestant("tfbnn, marginal", "ours", "marginal", ("predict",)),
    Contestant("tfbnn, coherent", "ours", "coherent", ("predict",)),
    Contestant("tfbnn.train, DenseLocalReparameterization", "ours", "train DenseLocalReparameterization", ("train",)),
    Contestant("tfbnn.train, DenseFlipout", "ours", "train DenseFlipout", ("train",)),
    Contestant("tfbnn fit, DenseLocalReparameterization", "ours", "fit DenseLocalReparameterization", ("train",)),
    Contestant("tfbnn fit, DenseFlipout", "ours", "fit DenseFlipout", ("train",)),
    Contestant("tfp.layers, DenseLocalReparameterization", "tfp_layers", "DenseLocalReparameterization"),
    Contestant("tfp.layers, DenseFlipout", "tfp_layers", "DenseFlipout"),
    Contestant("bayesian-torch, LinearReparameterization", "bayesian_torch", "LinearReparameterization"),
    Contestant("bayesian-torch, LinearFlipout", "bayesian_torch", "LinearFlipout"),
    Contestant("blitz, BayesianLinear", "blitz", "BayesianLinear"),
]
WORKERS = list(dict.fromkeys(contestant.worker for contestant in CONTESTANTS))
