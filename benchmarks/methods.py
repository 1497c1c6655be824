"""What methods cost over plain training: 8-50-1, 1,000 rows, batch 32; and how long NUTS takes on 500 rows.

Each figure is the median of rounds in turn. Every round makes its models anew, and so includes tracing and compiling.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import keras
import numpy as np

import tfbnn
from benchmarks import timing

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
        model = tfbnn.BayesianModel(tfbnn.layers.as_points(network()), likelihood, seed=0)
        model.compile(optimizer)
        tfbnn.train(model, x, y, epochs=epochs, batch_size=BATCH, verbose=0)
        return
    method = getattr(tfbnn.inference, kind)(network(), likelihood, optimizer, seed=0, **options)
    method.fit(x, y, epochs=epochs, batch_size=BATCH, verbose=0)


def nuts() -> str:
    """Time, R-hat and effective draws a second of 4 chains x 1,000 draws on 500 rows."""
    x, y = rows(500)
    method = tfbnn.inference.NUTS(network(), tfbnn.likelihoods.Normal().adapt(y), keras.optimizers.Adam(0.01), seed=0)
    begin = time.perf_counter()
    draws = method.fit(x, y, epochs=100, batch_size=BATCH, verbose=0)
    seconds = time.perf_counter() - begin
    told = ", ".join(f"{name} {value}" for name, value in draws.metadata.items() if name != "message")
    return f"NUTS, 8-50-1, 500 rows: {seconds:.0f} s (target <= 600). {told}"
