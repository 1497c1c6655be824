"""Few training rows: test log likelihood of the variational net beside the plain net, stopped early, on `energy`.

Both have the same layers (D-50-50-2, a mean and a scale a row), optimizer and rows. The plain net has point weights
without a prior; it holds a fifth of its rows out, and takes the weights of the epoch at which their likelihood was
best. The variational net trains on all rows, by a recipe of `benchmarks.uci`, and looks at nothing else.
For each split of the set, the first n rows of a permutation of its training rows are taken.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import keras
import numpy as np

import tfbnn
from benchmarks import timing, uci

SIZES = (20, 50, 100, 300)
HELD_OUT, PATIENCE, MAX_EPOCHS = 0.2, 100, 2000


def main(arguments: list[str]) -> None:
    """Prints the table and writes it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks small_data", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the set, for example DATA/uci/energy")
    parser.add_argument("--splits", type=timing.positive, default=20)
    parser.add_argument("--method", choices=uci.METHODS, default="ensemble")
    parser.add_argument("--sizes", type=timing.positive, nargs="+", default=SIZES, metavar="N", help="training rows")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args(arguments)
    splits = uci.read_set(given.data, given.splits)
    rows = []
    for size in given.sizes:
        parts = [first_rows(split, size, k) for k, split in enumerate(splits)]
        begin = time.perf_counter()
        ours = [split["ll"] for split in uci.run(uci.METHODS[given.method], parts)["splits"]]
        plain = plain_scores(parts)
        better = int(np.sum(np.array(ours) > np.array(plain)))
        rows.append({"rows": size, given.method: ours, "plain": plain, "seconds": time.perf_counter() - begin})
        compared = f"{given.method} {told(ours)}, plain {told(plain)}; better on {better} of {len(parts)}"
        print(f"n = {size:3}: {compared}", flush=True)
    lines = [f"| training rows | {given.method} | plain net, stopped early |", "|---|---|---|"]
    lines += [f"| {row['rows']} | {told(row[given.method])} | {told(row['plain'])} |" for row in rows]
    given.out.mkdir(parents=True, exist_ok=True)
    about = {"machine": timing.machine(), "commit": timing.commit(), "set": given.data.name}
    (given.out / "small_data.json").write_text(json.dumps({**about, "results": rows}, indent=1))
    (given.out / "small_data.md").write_text("\n".join(lines) + "\n")
    print(f"\nTest log likelihood, nats a row, {given.data.name}: mean, its standard error, median over the splits\n")
    print("\n".join(lines))


def told(values: list[float]) -> str:
    """Mean, standard error, median."""
    return f"{np.mean(values):.2f} ± {np.std(values) / np.sqrt(len(values)):.2f} (median {np.median(values):.2f})"


def first_rows(split: uci.Split, size: int, seed: int) -> uci.Split:
    """The split with `size` of its training rows, standardised by them again."""
    kept = np.random.default_rng(seed).permutation(len(split.x))[:size]
    x, y = split.x[kept], split.y[kept]
    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.where(scale > 1e-6, scale, 1.0)
    return uci.Split((x - mean) / scale, y, (split.x_test - mean) / scale, split.y_test)


def plain_scores(splits: list[uci.Split]) -> list[float]:
    """Test log likelihoods of the plain nets, nats a row."""
    held = [max(1, round(HELD_OUT * len(split.x))) for split in splits]
    kept = [(split.x[n:], split.y[n:]) for split, n in zip(splits, held, strict=True)]
    watched = [(split.x[:n], split.y[:n]) for split, n in zip(splits, held, strict=True)]
    models = [plain_net(x.shape[1], y, seed) for seed, (x, y) in enumerate(kept)]
    tfbnn.train_many(models, kept, MAX_EPOCHS, 32, watched, patience=PATIENCE, validation_samples=1, verbose=0)
    return [
        float(np.mean(model.predict_distribution(split.x_test, 1).log_prob(split.y_test)))
        for model, split in zip(models, splits, strict=True)
    ]


def plain_net(num_features: int, y: np.ndarray, seed: int) -> tfbnn.BayesianModel:
    """The same net with point weights and no prior: maximum likelihood."""
    likelihood = tfbnn.likelihoods.HeteroscedasticNormal(smallest_scale=uci.METHODS["vi"].smallest_scale).adapt(y)
    hidden = [keras.layers.Dense(units, "relu", kernel_initializer=keras.initializers.HeNormal(seed=100 * seed + i))
              for i, units in enumerate(uci.METHODS["vi"].hidden)]  # fmt: skip
    last = keras.layers.Dense(2, kernel_initializer=keras.initializers.GlorotUniform(seed=seed))
    network = keras.Sequential([keras.Input((num_features,)), *hidden, last])
    model = tfbnn.BayesianModel(network, likelihood, seed=seed)
    model.compile(keras.optimizers.Adam(0.01))
    return model
