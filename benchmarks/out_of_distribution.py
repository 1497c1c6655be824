"""Does a score of being unsure tell Fashion-MNIST from MNIST, and attacked digits from others?

One convolutional net (two of 5 x 5, 128 units; each method's copy of it) is trained on the digits, as a plain net from
several beginnings, as their deep ensemble, with Monte Carlo dropout, as an ensemble of such nets, and with mean-field
posteriors in its dense layers. AUROC: the chance that a picture of clothes scores higher than a digit.

All have the same weight decay. It and the numbers of filters were set after a look at a table like this one.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from sklearn.metrics import roc_auc_score

import tfbnn
from benchmarks import timing
from benchmarks.mnist import Images, read_images
from tfbnn.evaluation import UNCERTAINTIES, Loss, Mahalanobis, fgsm, pgd, trunk_features, uncertainty
from tfbnn.inference.base import has_dropout, has_posteriors
from tfbnn.prediction import Prediction, StoredDraws
from tfbnn.prediction.stored_draws import drawn_variables

BATCH, RATE, DECAY, DROPPED, SAMPLES = 128, 2e-3, 0.05, 0.3, 50
FEATURE_DRAWS = 5  # of which the Mahalanobis distance is the mean
STEPS = 10  # of an attack by PGD
FITTED_ROWS = 20_000  # of the digits trained on, to which its Gaussians are fitted
REFERRED = 0.1  # share of the clean digits that may be referred
RADII = (0.0, 0.05, 0.1, 0.2, 0.3)
PLAIN = "plain net"
SCORES = (*UNCERTAINTIES, "mahalanobis")
EPISTEMIC = ("mutual_information", "epistemic_variance", "mahalanobis")


def main(arguments: list[str]) -> None:
    """Prints the tables, and writes them and the picture."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks out_of_distribution", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--data", type=Path, required=True, help="folder that holds mnist/ and fashion-mnist/")
    parser.add_argument("--epochs", type=timing.positive, default=3)
    parser.add_argument("--members", type=timing.positive, default=5, help="nets of an ensemble")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--rows", type=timing.positive, help="digits to train on; all unless told")
    parser.add_argument("--test-rows", type=timing.positive, help="pictures of each set to score; all unless told")
    parser.add_argument("--attacked", type=timing.positive, default=300, help="digits to attack")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args(arguments)
    digits = first(read_images(given.data / "mnist"), given.rows)
    test = first(read_images(given.data / "mnist", "test"), given.test_rows)
    clothes = first(read_images(given.data / "fashion-mnist", "test"), given.test_rows)
    train = Trainer(digits, given.epochs, given.members)
    told = [f"{timing.machine()}; commit {timing.commit()}; {given.epochs} epochs, {given.members} members", ""]
    results = {}
    print("\n".join([*told, *HEADING]), flush=True)
    for name in dict.fromkeys([PLAIN, *given.methods]):
        results[name] = measure(METHODS[name](train), digits, test, clothes, train.seconds)
        print(line(name, results[name]), flush=True)
    others = [name for name in results if name != PLAIN]
    best = max(others, key=lambda name: mean_of(results[name], "mutual_information"), default=PLAIN)
    lines = [*told, *HEADING, *(line(name, result) for name, result in results.items()), "", *ATTACK_HEADING]
    print("\n".join(["", *ATTACK_HEADING]), flush=True)
    for name, by in {PLAIN: "least_confidence", best: "mutual_information"}.items():
        for row in attack_lines(name, results[name].draws, by, test, given.attacked):
            print(row, flush=True)
            lines.append(row)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "out_of_distribution.md").write_text("\n".join(lines) + "\n")
    numbers = {name: {"auroc": result.auroc, "accuracy": result.accuracy} for name, result in results.items()}
    (given.out / "out_of_distribution.json").write_text(json.dumps(numbers, indent=1))
    picture(given.out / "out_of_distribution.png", {PLAIN: results[PLAIN], best: results[best]}, test, clothes)
    print(f"\nWritten to {given.out}")


def first(images: Images, count: int | None) -> Images:
    return Images(images.x[:count], images.y[:count])


# --- methods ----------------------------------------------------------------------------------------------------------


def network(seed: int, dense: Any = keras.layers.Dense) -> keras.Model:
    """28 x 28 - 16 of 5 x 5 - 32 of 5 x 5 - 128 - 10, each convolution followed by a maximum over 2 x 2."""
    keras.utils.set_random_seed(seed)
    convolution, largest = keras.layers.Conv2D, keras.layers.MaxPooling2D
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            convolution(16, 5, activation="relu"),
            largest(),
            convolution(32, 5, activation="relu"),
            largest(),
            keras.layers.Flatten(),
            dense(128, activation="relu"),
            dense(10),
        ]
    )


class Trainer:
    """Trains nets on the digits, each kind once.

    Members are trained one after another: on a stacked axis, convolutions would be loops.
    """

    def __init__(self, digits: Images, epochs: int, members: int):
        self.digits, self.epochs, self.members = digits, epochs, members
        self.seconds = 0.0
        self._kept: dict[str, list[Any]] = {}

    def nets(self, kind: str, count: int) -> list[Any]:
        """Draws of `count` nets of one kind; adds up the seconds of all that the method uses."""
        kept = self._kept.setdefault(kind, [])
        while len(kept) < count:
            begin = time.perf_counter()
            method = KINDS[kind](len(kept), self._optimizer())
            found = method.fit(*self.digits, epochs=self.epochs, batch_size=BATCH, verbose=0, jit_compile=False)
            kept.append((found, time.perf_counter() - begin))
        self.seconds = sum(seconds for _, seconds in kept[:count])
        return [found for found, _ in kept[:count]]

    def _optimizer(self) -> keras.optimizers.Optimizer:
        steps = self.epochs * -(-len(self.digits.y) // BATCH)
        return keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(RATE, steps), weight_decay=DECAY)


def plain(seed: int, optimizer: Any) -> Any:
    """A net without any posterior: its one draw is its output."""
    return tfbnn.inference.VariationalInference(network(seed), categorical(), optimizer, seed=seed)


def dropout(seed: int, optimizer: Any) -> Any:
    return tfbnn.inference.MonteCarloDropout(network(seed), categorical(), optimizer, rate=DROPPED, seed=seed)


def mean_field(seed: int, optimizer: Any) -> Any:
    net = network(seed, tfbnn.layers.DenseLocalReparameterization)
    return tfbnn.inference.VariationalInference(net, categorical(), optimizer, seed=seed)


def categorical() -> Any:
    return tfbnn.likelihoods.Categorical(10)


KINDS: dict[str, Callable[[int, Any], Any]] = {"plain": plain, "dropout": dropout, "mean-field": mean_field}


def joined(members: Sequence[Any], endless: bool) -> StoredDraws:
    """The equal mixture of nets of one kind; draw i is one of member i mod M."""
    settings = [[v.numpy() for v in drawn_variables(one.network, one.likelihood)] for one in members]
    return StoredDraws(members[0].network, members[0].likelihood, settings, endless=endless)


METHODS: dict[str, Callable[[Trainer], list[Any]]] = {
    PLAIN: lambda train: train.nets("plain", train.members),
    "deep ensemble": lambda train: [joined(train.nets("plain", train.members), endless=False)],
    "MC dropout": lambda train: train.nets("dropout", 1),
    "ensemble of MC dropout": lambda train: [joined(train.nets("dropout", train.members), endless=True)],
    "mean-field, dense layers": lambda train: train.nets("mean-field", 1),
}


# --- out of distribution ----------------------------------------------------------------------------------------------


class Result:
    """Of one method.

    Attributes:
        draws: that the attack is made on (of several plain nets, the first).
        accuracy: of each of its nets.
        auroc: score -> of each of its nets.
        predictions: of the digits and the clothes, by the first.
    """

    def __init__(self, draws: Any, seconds: float):
        self.draws, self.seconds = draws, seconds
        self.accuracy: list[float] = []
        self.auroc: dict[str, list[float]] = {name: [] for name in SCORES}
        self.predictions: list[Prediction] = []


def measure(nets: list[Any], digits: Images, test: Images, clothes: Images, seconds: float) -> Result:
    """Scores each net; several are told by mean, least and most (the plain ones)."""
    result = Result(nets[0], seconds / len(nets))
    for draws in nets:
        S = samples(draws)
        told = [draws.predict_distribution(images.x, S) for images in (test, clothes)]
        for name in UNCERTAINTIES:
            result.auroc[name].append(auroc(*(uncertainty(one, by=name) for one in told)))
        result.auroc["mahalanobis"].append(auroc(*distances(draws, digits, test.x, clothes.x)))
        result.accuracy.append(float(np.mean(told[0].probabilities.argmax(axis=1) == test.y)))
        result.predictions = result.predictions or told
    return result


def samples(draws: Any, most: int = SAMPLES) -> int:
    """S; a net that is no draw of anything is asked once."""
    return draws.at_most(most if is_random(draws) else 1)


def is_random(draws: Any) -> bool:
    return draws.num_draws is not None or has_dropout(draws.network) or has_posteriors(draws.network)


def distances(draws: Any, digits: Images, *parts: np.ndarray) -> list[np.ndarray]:
    """The Mahalanobis distance of the rows of each part."""
    S = samples(draws, FEATURE_DRAWS)
    fitted = Mahalanobis.fit(trunk_features(draws, digits.x[:FITTED_ROWS], S), digits.y[:FITTED_ROWS])
    return [fitted.score(trunk_features(draws, x, S)) for x in parts]


def auroc(inside: np.ndarray, outside: np.ndarray) -> float:
    is_outside = np.repeat([0, 1], [len(inside), len(outside)])
    return float(roc_auc_score(is_outside, np.concatenate([inside, outside])))


HEADING = [f"| method | accuracy | {' | '.join(name.replace('_', ' ') for name in SCORES)} | train s |",
           f"|---|---|{'---|' * len(SCORES)}---|"]  # fmt: skip


def line(name: str, result: Result) -> str:
    """A row of the table; several nets as mean (least - most)."""
    told = [spread(result.auroc[score]) for score in SCORES]
    return f"| {name} | {spread(result.accuracy)} | {' | '.join(told)} | {result.seconds:.0f} |"


def spread(values: list[float]) -> str:
    mean = f"{np.mean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f} - {max(values):.3f})"


def mean_of(result: Result, score: str) -> float:
    return float(np.mean(result.auroc[score]))


# --- attack -----------------------------------------------------------------------------------------------------------

ATTACK_HEADING = ["| method, score | attack | radius | accuracy | wrong rows referred | right rows referred |",
                  "|---|---|---|---|---|---|"]  # fmt: skip


def attack_lines(name: str, draws: Any, by: str, test: Images, count: int) -> list[str]:
    """A row an attack and radius: what is still right, and what part of the rest the score would refer.

    Rows are referred above the threshold that refers 10 % of clean digits which are not attacked. Towards a class: the
    one after the true one; that attack wants a sure answer.
    """
    S = samples(draws)
    x, y = test.x[:count], test.y[:count]
    threshold = np.quantile(uncertainty(draws.predict_distribution(test.x[count:], S), by=by), 1.0 - REFERRED)
    loss = Loss(draws, num_samples=samples(draws, 10))
    rows = []
    by_steps = functools.partial(pgd, steps=STEPS)
    for attack, targeted, label in (
        (fgsm, False, "FGSM"),
        (by_steps, False, "PGD"),
        (by_steps, True, "PGD, towards a class"),
    ):
        for radius in RADII if label == "FGSM" else RADII[1:]:
            attacked = attack(loss, x, (y + 1) % 10 if targeted else y, radius, targeted=targeted)
            told = draws.predict_distribution(attacked, S)
            right = told.probabilities.argmax(axis=1) == y
            referred = uncertainty(told, by=by) > threshold
            shares = f"{np.mean(right):.3f} | {share(referred[~right])} | {share(referred[right])}"
            rows.append(f"| {name}, {by.replace('_', ' ')} | {label if radius else 'none'} | {radius:g} | {shares} |")
    return rows


def share(chosen: np.ndarray) -> str:
    """The part that is chosen, of how many."""
    return f"{np.mean(chosen):.0%} of {len(chosen)}" if len(chosen) else "none"


# --- picture ----------------------------------------------------------------------------------------------------------


def picture(path: Path, results: dict[str, Result], test: Images, clothes: Images) -> None:
    """Histograms of a score of each method, and the pictures that the last one's tells worst and best."""
    from tfbnn.plots.base import BLUE, ORANGE, panels, write

    figure, axes = panels(len(results) + 2, 2, 4.6, 2.6)
    scores: list[np.ndarray] = []
    for axis, (name, result) in zip(axes, results.items(), strict=False):
        by = "least_confidence" if name == PLAIN else "mutual_information"
        scores = [np.log10(np.maximum(uncertainty(one, by=by), 1e-8)) for one in result.predictions]
        for values, colour, label in zip(scores, (BLUE, ORANGE), ("digits", "clothes"), strict=True):
            axis.hist(values, bins=np.linspace(-8, 0.5, 60), color=colour, alpha=0.6, label=label)
        axis.set_title(f"{name}: {by.replace('_', ' ')}, AUROC {result.auroc[by][0]:.4f}", fontsize=9, loc="left")
        axis.set_xlabel("log10 of the score; right: less sure", fontsize=8)
        axis.set_ylabel("pictures", fontsize=8)
        axis.legend(fontsize=8, frameon=False)
    surest, least_sure = scores[1].argsort()[:12], scores[0].argsort()[::-1][:12]
    for axis, images, rows, title in (
        (axes[-2], test, least_sure, "digits that it finds most suspicious"),
        (axes[-1], clothes, surest, "clothes that it finds least suspicious"),
    ):
        axis.imshow(sheet(images.x[rows, ..., 0]), cmap="gray_r")
        axis.set_title(title, fontsize=9, loc="left")
        axis.set_axis_off()
    write(figure, path)


def sheet(pictures: np.ndarray, columns: int = 6) -> np.ndarray:
    """[N, H, W] side by side: [N / columns * H, columns * W]."""
    rows = [np.concatenate(list(pictures[i : i + columns]), axis=1) for i in range(0, len(pictures), columns)]
    return np.concatenate(rows)
