"""Target 7: the error of the mean of few draws that spread evenly, beside independent ones; see `prediction.errors`."""

from __future__ import annotations

import argparse

import numpy as np
import tensorflow as tf

from benchmarks import prediction, timing
from benchmarks.targets.outcome import Outcome, Target

ROWS = 128
TARGET = Target(7, f"error of the predictive mean, S={prediction.FEW}, spread evenly: independent draws", 0.6)


def measure(given: argparse.Namespace) -> list[Outcome]:
    """The better of the sequences."""
    rows = np.random.default_rng(0).normal(size=(ROWS, prediction.INPUTS)).astype(np.float32)
    with tf.device(timing.device(given.device)):
        found = prediction.errors(prediction.bayesian_mlp(), rows, given.reference, given.seeds)
    ratios = {name: error / found["independent"] for name, error in found.items() if name != "independent"}
    best = min(ratios, key=ratios.get)
    told = ", ".join(f"{name} {error:.2e}" for name, error in found.items())
    details = [f"{best} is the best; root mean square against {given.reference:,} draws, {given.seeds} seeds: {told}"]
    return [Outcome(TARGET, ratios[best], details=details)]
