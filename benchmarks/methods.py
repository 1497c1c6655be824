"""What methods cost over plain training: 8-50-1, 1,000 rows, batch 32; and how long NUTS takes on 500 rows.

Each figure is the median of rounds in turn. Every round makes its models anew, and so includes tracing and compiling.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

import tfbnn
from benchmarks import timing
from benchmarks.peers import process
from benchmarks.peers.environments import python_of
from tfbnn.layers.convert import as_points
from tfbnn.training.convergence import convergence

ROWS, EPOCHS, BATCH = 1000, 1000, 32


def main(arguments: list[str]) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks methods", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=timing.positive, default=3)
    parser.add_argument("--epochs", type=timing.positive, default=EPOCHS)
    parser.add_argument("--nuts", action="store_true", help="NUTS too: some minutes")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args(arguments)
    x, y = rows(ROWS)
    seconds = timing.in_turn({name: lambda name=name: fit(name, x, y, given.epochs) for name in METHODS}, given.rounds)
    text = f"{timing.machine()}\n\n{timing.table(seconds, 'plain')}\n\nTargets: ensemble <= 3, SWAG and Laplace <= 1.2."
    if given.nuts:
        text += "\n\n" + nuts()
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "methods.md").write_text(text + "\n")
    print(text)


METHODS = {
    "plain": ("points", {}),
    "DeepEnsemble of 10": ("DeepEnsemble", {"members": 10}),
    "SWAG": ("SWAG", {}),
    "Laplace, Kronecker": ("Laplace", {"structure": "kronecker"}),
}


def rows(count: int) -> tuple[np.ndarray, np.ndarray]:
    """x [N, 8], y [N]: a smooth function and noise."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 8)).astype(np.float32)
    y = np.sin(x[:, 0]) + 0.5 * x[:, 1] * x[:, 2] + 0.2 * rng.normal(size=count)
    return x, y.astype(np.float32)


def network() -> keras.Model:
    """8-50-1, prior Normal(0, 1)."""
    layer = tfbnn.layers.DenseReparameterization
    return keras.Sequential([keras.Input((8,)), layer(50, "tanh", seed=1), layer(1, seed=2)])


def fit(name: str, x: np.ndarray, y: np.ndarray, epochs: int) -> None:
    """Trains one method; "plain" is the MAP alone."""
    kind, options = METHODS[name]
    likelihood = tfbnn.likelihoods.Normal().adapt(y)
    optimizer = keras.optimizers.Adam(0.01)
    if kind == "points":
        model = tfbnn.BayesianModel(as_points(network()), likelihood, seed=0)
        model.compile(optimizer)
        tfbnn.train(model, x, y, epochs=epochs, batch_size=BATCH, verbose=0)
        return
    method = getattr(tfbnn.inference, kind)(network(), likelihood, optimizer, seed=0, **options)
    method.fit(x, y, epochs=epochs, batch_size=BATCH, verbose=0)


CHAINS, WARMUP, DRAWS, DEPTH, ACCEPT = 4, 500, 1000, 8, 0.8
RHO = float(np.log(np.expm1(1.0)))  # where a learned noise scale begins: 1 standard deviation of y


def nuts() -> str:
    """Seconds, R-hat of predictions and effective draws a second of NUTS on 500 rows, beside NumPyro's."""
    x, y = rows(500)
    options = {"chains": CHAINS, "warmup": WARMUP, "num_draws": DRAWS, "max_tree_depth": DEPTH, "target_accept": ACCEPT}
    likelihood, adam = tfbnn.likelihoods.Normal().adapt(y), keras.optimizers.Adam(0.01)
    method = tfbnn.inference.NUTS(network(), likelihood, adam, seed=0, **options)
    begin = time.perf_counter()
    method.fit(x, y, epochs=100, batch_size=BATCH, verbose=0)
    seconds = time.perf_counter() - begin
    weights = method.to_inference_data().posterior
    ours = _line("tfbnn", predictions_of(weights, x[:50]), seconds)
    heading = ["| NUTS, 8-50-1, 500 rows | s, all | R-hat | ESS, bulk, least | ESS / s |", "|---|---|---|---|---|"]
    return "\n".join([*heading, ours, _line("NumPyro", *numpyro_nuts(x, (y - y.mean()) / y.std()))])


def predictions_of(weights: Any, x: np.ndarray) -> np.ndarray:
    """f [C, T, B] in standardised units, of the weights in an `InferenceData`, by their shapes."""
    arrays = [weights[name].values for name in weights]
    kernel_0, bias_0 = (next(a for a in arrays if a.shape[2:] == shape) for shape in ((8, 50), (50,)))
    kernel_1, bias_1 = (next(a for a in arrays if a.shape[2:] == shape) for shape in ((50, 1), (1,)))
    hidden = np.tanh(x @ kernel_0 + bias_0[:, :, None])
    return (hidden @ kernel_1)[..., 0] + bias_1


def _line(name: str, predictions: np.ndarray, seconds: float) -> str:
    found = convergence(predictions)
    told = f"{found.rhat:.3f} | {found.ess_bulk:.0f} | {found.ess_bulk / seconds:.2f}"
    return f"| {name} | {seconds:.0f} | {told} |"


def numpyro_nuts(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """Predictions of NumPyro's draws and its seconds, compiling included, in a process and environment of its own."""
    with tempfile.TemporaryDirectory() as folder:
        arrays, result = Path(folder) / "arrays.npz", Path(folder) / "result.npz"
        np.savez(arrays, x=x, y=y, rho_0=RHO, chains=CHAINS, warmup=WARMUP, draws=DRAWS, depth=DEPTH, accept=ACCEPT)
        command = [*process.command(python_of("numpyro_nuts"), "numpyro_nuts"), str(arrays), str(result)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(process.ROOT)}, timeout=3600)
        found = np.load(result)
        return found["predictions"], float(found["seconds"][0])
