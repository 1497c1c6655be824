"""Few rows: a prior that knows what a digit looks like, beside one that does not.

scikit-learn's digits (8 x 8), a linear classifier. The informed prior's means come from ten glyphs that were drawn by
hand, before any row was seen: pixel weights of a class are STRENGTH times (its glyph - the mean glyph). Its scale is
half as large at the left and right edges, where a digit rarely has ink. STRENGTH and SCALE were chosen from four pairs
by the ELBO of the 21 training rows of `recipes/digits.yaml`. The other prior is Normal(0, s), for several s, so that it
is not handicapped by a badly chosen one. The likelihood, the net and the training are the same.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from sklearn.datasets import load_digits

import tfbnn
from benchmarks import timing

SIZES = (10, 20, 50, 100, 500)
STRENGTH, SCALE, FLAT_SCALES = 1.0, 0.8, (0.3, 1.0, 3.0)
TEST_ROWS, EPOCHS = 1000, 400
GLYPHS = """
..###...  ...#....  ..###...  ..###...  .....#..  ..####..  ...##...  ..#####.  ..###...  ..###...
..#.##..  ..##....  .##.##..  .##.##..  ....##..  ..#.....  ..##....  .....##.  .#...#..  .#..##..
.##..#..  .###....  .....#..  .....#..  ...##...  ..#.....  ..#.....  .....#..  .##.##..  .#...#..
.#...#..  ...#....  ....##..  ...##...  ..##....  ..####..  .##.....  ....##..  ..###...  .##.##..
.#...#..  ...#....  ....#...  ....##..  ..#..#..  .....#..  .#####..  ..#####.  .##.##..  ..####..
.#..##..  ...#....  ...##...  .....#..  .######.  .....#..  .#...##.  ...#....  .#...#..  .....#..
.##.#...  ...#....  ..##....  .#..##..  ....#...  .#..##..  ..#..#..  ..##....  .##.##..  .....#..
..###...  .#####..  .######.  ..###...  ....#...  ..###...  ..####..  ..#.....  ..###...  ..###...
"""


def main(arguments: list[str]) -> None:
    """Prints the table and writes it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks domain_knowledge", description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=timing.positive, default=10)
    parser.add_argument("--sizes", type=timing.positive, nargs="+", default=SIZES, metavar="N", help="training rows")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args(arguments)
    results = {}
    for size in given.sizes:
        splits = [split(size, seed) for seed in range(given.seeds)]
        for name, prior in priors().items():
            results[f"{name}, {size}"] = scores(prior, splits)
            print(f"{size} rows, {name}: {told(results[f'{name}, {size}'])}", flush=True)
    text = report(results, given.sizes)
    given.out.mkdir(parents=True, exist_ok=True)
    about = {"machine": timing.machine(), "commit": timing.commit(), "results": results}
    (given.out / "domain_knowledge.json").write_text(json.dumps(about, indent=1))
    (given.out / "domain_knowledge.md").write_text(text)
    draw(given.out / "domain_knowledge.png", results, given.sizes)
    print(f"\n{text}\nWritten: {given.out}/domain_knowledge.md, .json, .png")


def glyphs() -> np.ndarray:
    """1 where a digit has ink, [10, 8, 8]."""
    rows = [line.split() for line in GLYPHS.strip().splitlines()]
    return np.array([[[mark == "#" for mark in row[digit]] for row in rows] for digit in range(10)], np.float32)


def priors() -> dict[str, Any]:
    """Name -> prior of weights [64 + 1, 10], the last row of which is the bias."""
    drawn = glyphs().reshape(10, 64)
    mean = np.vstack([STRENGTH * (drawn - drawn.mean(axis=0)).T, np.zeros([1, 10])])
    columns = np.array([0.5, 1, 1, 1, 1, 1, 1, 0.5])
    scale = SCALE * np.append(np.tile(columns, 8), 1.0)[:, None]
    flat = {f"Normal(0, {scale:g})": tfbnn.priors.Normal(scale=scale) for scale in FLAT_SCALES}
    return {"hand-drawn glyphs": tfbnn.priors.Normal(loc=mean, scale=scale), **flat}


def split(size: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x, y of training rows and of test rows; pixels from -1 to 1."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(x))
    x, y = ((x - 8) / 8).astype(np.float32)[order], y.astype(np.int32)[order]
    return x[TEST_ROWS : TEST_ROWS + size], y[TEST_ROWS : TEST_ROWS + size], x[:TEST_ROWS], y[:TEST_ROWS]


def scores(prior: Any, splits: list) -> list[tuple[float, float]]:
    """Accuracy and log likelihood, nats a row, of each split; all nets are trained at once."""
    models = [model_of(prior, len(part[0]), seed) for seed, part in enumerate(splits)]
    batch = min(50, len(splits[0][0]))
    tfbnn.train_many(models, [(x, y) for x, y, _, _ in splits], EPOCHS, batch, verbose=0)
    found = []
    for model, (_, _, x, y) in zip(models, splits, strict=True):
        prediction = model.predict_distribution(x)
        accuracy = np.mean(prediction.probabilities.argmax(axis=1) == y)
        found.append((float(accuracy), float(np.mean(prediction.log_prob(y)))))
    return found


def model_of(prior: Any, num_data: int, seed: int) -> tfbnn.BayesianModel:
    """A linear classifier under the prior."""
    layer = tfbnn.layers.DenseVariational(10, make_prior_fn=prior, seed=seed)
    network = keras.Sequential([keras.Input((64,)), layer])
    model = tfbnn.BayesianModel(network, tfbnn.likelihoods.Categorical(10), num_data=num_data, seed=seed)
    model.compile(keras.optimizers.Adam(0.02))
    return model


def told(results: list[tuple[float, float]]) -> str:
    """Mean and standard error of accuracy and log likelihood."""
    numbers = np.array(results)
    (accuracy, nats), (of_accuracy, of_nats) = numbers.mean(axis=0), numbers.std(axis=0) / np.sqrt(len(numbers))
    return f"{100 * accuracy:.1f} ± {100 * of_accuracy:.1f} %, {nats:.2f} ± {of_nats:.2f} nats"


def report(results: dict[str, list], sizes: list[int]) -> str:
    """Markdown: a row a prior, a column a number of rows."""
    lines = [f"| prior | {' | '.join(f'{size} rows' for size in sizes)} |", "|---|" + "---|" * len(list(sizes))]
    lines += [f"| {name} | {' | '.join(told(results[f'{name}, {size}']) for size in sizes)} |" for name in priors()]
    return "\n".join(lines) + "\n"


def draw(path: Path, results: dict[str, list], sizes: Sequence[int]) -> None:
    """Accuracy against the number of rows, a line a prior; and the glyphs."""
    from tfbnn.plots.base import BLUE, INK, panels, write

    figure, (curves, images) = panels(2, 2, 4.6, 3.2)
    for name, line in zip(priors(), ("-", "--", "-.", ":"), strict=True):
        told = np.array([[accuracy for accuracy, _ in results[f"{name}, {size}"]] for size in sizes])
        of_mean = told.std(axis=1) / np.sqrt(told.shape[1])
        colour = BLUE if line == "-" else INK
        curves.errorbar(sizes, told.mean(axis=1), of_mean, color=colour, linestyle=line, linewidth=1.2, label=name)
    curves.set_xscale("log")
    curves.set_xticks(sizes, [str(size) for size in sizes])
    curves.minorticks_off()
    curves.set_xlabel("rows trained on")
    curves.set_ylabel("accuracy on 1,000 other rows")
    curves.legend(fontsize=8, frameon=False, title="prior of the weights", title_fontsize=8)
    drawn = np.pad(glyphs(), ((0, 0), (1, 1), (1, 1)))
    images.imshow(np.concatenate([np.concatenate(list(row), axis=1) for row in drawn.reshape(2, 5, 10, 10)]), "gray_r")
    images.set_title("what the prior was told", fontsize=9, loc="left")
    images.set_axis_off()
    write(figure, path)
