"""S draws of a Bayesian MLP against one compiled deterministic Keras pass over B x S rows.

Equal work: the same architecture, float32, all threads, the same B rows; the deterministic net sees each row S times,
which is what S plain forward passes would cost at best. Its B x S rows lie in a tensor before the clock starts, while
tfbnn's rows go in as NumPy; both hand their results back as NumPy. Before anything is timed, marginal and coherent
prediction must agree in distribution with explicit draws of all weights in NumPy.
"""

from __future__ import annotations

import argparse

import keras
import numpy as np
import tensorflow as tf

import tfbnn
from benchmarks import limit, timing
from tfbnn.core.sequences import SEQUENCES

INPUTS, HIDDEN, OUTPUTS = 784, (400, 400), 10
TARGET, FEW = 1.5, 32


def main(arguments: list[str]) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks prediction", description=__doc__)
    parser.add_argument("--batch", type=int, default=128, help="B, rows")
    parser.add_argument("--samples", type=int, default=100, help="S, draws")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--reference", type=int, default=100_000, help="draws whose mean counts as exact")
    timing.add_device(parser)
    given = parser.parse_args(arguments)
    with tf.device(timing.device(given.device)):
        report(given)


def report(given: argparse.Namespace) -> None:
    """Measures and prints."""
    model = bayesian_mlp()
    rows = np.random.default_rng(0).normal(size=(given.batch, INPUTS)).astype(np.float32)
    check_agreement(model, rows)
    seconds = timing.in_turn(contestants(model, rows, given.samples), given.rounds)
    print(f"MLP {INPUTS}-{'-'.join(map(str, HIDDEN))}-{OUTPUTS} of DenseFlipout, B={given.batch}, S={given.samples}")
    print(f"{timing.machine(given.device)}; medians of {given.rounds} rounds in turn\n")
    print(timing.table(seconds, "deterministic, B x S rows"))
    print(f"\n{errors_table(errors(model, rows, given.reference), given.reference)}")
    print(f"\nTarget: marginal <= {TARGET}. Coherent draws every weight S times, and is bound by random numbers.")


def contestants(model: tfbnn.BayesianModel, rows: np.ndarray, num_samples: int) -> dict:
    """What is timed, by name."""
    deterministic = plain_mlp()
    compiled = tf.function(lambda x: deterministic(x, training=False), jit_compile=False)
    repeated = tf.constant(np.tile(rows, (num_samples, 1)))
    return {
        "deterministic, B x S rows": lambda: compiled(repeated).numpy(),
        f"{limit.NAME}, B x S rows": limit.products(limit.dense(INPUTS, *HIDDEN, OUTPUTS), len(rows) * num_samples),
        "tfbnn, marginal": lambda: model.predict_distribution(rows, num_samples),
        "tfbnn, coherent": lambda: model.predict_distribution(rows, num_samples, coupling="coherent"),
    }


def errors(model: tfbnn.BayesianModel, rows: np.ndarray, reference: int, seeds: int = 20) -> dict[str, float]:
    """How far the mean of 32 draws is from the exact one, by how draws go together: root mean squares over rows."""
    exact = model.predict_distribution(rows, reference, seed=99).probabilities
    found = {}
    for sequence in SEQUENCES:
        predictions = [model.predict_distribution(rows, FEW, seed=seed, sequence=sequence) for seed in range(seeds)]
        found[sequence] = float(np.sqrt(np.mean([np.square(p.probabilities - exact) for p in predictions])))
    return found


def errors_table(found: dict[str, float], reference: int) -> str:
    """Markdown: a row a sequence, with the ratio to independent draws."""
    lines = [
        f"| error of the mean, S = {FEW}, against {reference:,} draws | of probabilities | ratio |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {error:.2e} | {error / found['independent']:.2f} |" for name, error in found.items()]
    return "\n".join(lines)


def bayesian_mlp() -> tfbnn.BayesianModel:
    """The net with posteriors wide enough that noise matters."""
    posterior = tfbnn.posteriors.MeanField(initial_rho=-3.0)
    make = tfbnn.layers.DenseFlipout
    hidden = [make(units, activation="relu", kernel_posterior_fn=posterior, seed=units) for units in HIDDEN]
    last = make(OUTPUTS, kernel_posterior_fn=posterior, seed=1)
    network = keras.Sequential([keras.Input((INPUTS,)), *hidden, last])
    return tfbnn.BayesianModel(network, tfbnn.likelihoods.Categorical(OUTPUTS), seed=0)


def plain_mlp() -> keras.Model:
    """The same architecture with point weights."""
    hidden = [keras.layers.Dense(units, activation="relu") for units in HIDDEN]
    return keras.Sequential([keras.Input((INPUTS,)), *hidden, keras.layers.Dense(OUTPUTS)])


def check_agreement(model: tfbnn.BayesianModel, rows: np.ndarray, draws: int = 2000) -> None:
    """Mean and standard deviation of the first logits of one row, three ways, within 5 standard errors."""
    row = rows[:1]
    truth = explicit_draws(model, row, draws)
    for coupling in ("marginal", "coherent"):
        got = model.predict_distribution(row, draws, coupling=coupling).parameters[:, 0]
        spread = truth.std(axis=0)
        if np.any(np.abs(got.mean(axis=0) - truth.mean(axis=0)) > 5 * spread * np.sqrt(2 / draws)):
            raise AssertionError(f"{coupling} prediction has another mean than explicit draws of the weights")
        if np.any(np.abs(got.std(axis=0) / spread - 1) > 5 / np.sqrt(draws)):
            raise AssertionError(f"{coupling} prediction has another spread than explicit draws of the weights")


def explicit_draws(model: tfbnn.BayesianModel, row: np.ndarray, draws: int) -> np.ndarray:
    """Logits [draws, P] of one row by drawing every weight in NumPy."""
    rng = np.random.default_rng(1)
    parts = [[q.factorised_gaussian for q in layer.weight_posteriors] for layer in model.variational_layers]
    parts = [[(loc.numpy(), scale.numpy()) for loc, scale in layer] for layer in parts]
    logits = []
    for _ in range(draws):
        x = row
        for i, layer in enumerate(parts):
            kernel, bias = (loc + scale * rng.standard_normal(loc.shape, np.float32) for loc, scale in layer)
            x = x @ kernel + bias
            x = np.maximum(x, 0) if i < len(parts) - 1 else x
        logits.append(x[0])
    return np.stack(logits)
