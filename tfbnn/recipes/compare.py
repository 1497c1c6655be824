"""Trains one recipe by several methods and tells how far each is from the posterior that NUTS finds."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tfbnn.core.checks import InvalidInput, invalid
from tfbnn.core.draws import Draws
from tfbnn.evaluation import Distance, agreement, distance, score
from tfbnn.inference.base import own_likelihood
from tfbnn.prediction import Prediction, predict_distribution
from tfbnn.recipes.method import METHODS
from tfbnn.recipes.run import PreparedData, Progress, build_method, fit_method, prepare_data
from tfbnn.recipes.spec import Recipe

GOLD = "NUTS"
QUICK_METHODS = tuple(name for name in METHODS if name not in (GOLD, "HMC"))
FAR = 3.0  # far rows lie so many times as far from the centre of the training rows as held-out rows do
GOLD_DRAWS = 1000
SHARED = ("data", "likelihood")  # sections
TIMED_ROWS, TIMED_ROUNDS = 1000, 3


@dataclasses.dataclass(frozen=True)
class Contestant:
    """A method, as the user named it, and the recipe that runs it."""

    label: str
    recipe: Recipe


@dataclasses.dataclass(frozen=True)
class Result:
    """What one method gave.

    Attributes:
        label: as the user named it.
        scores: of the held-out rows: `log_likelihood`; `crps` and `coverage`, or `brier` and `accuracy`.
        near: how far its predictions of held-out rows are from the gold ones; None of the gold.
        far: the same of rows far from the data.
        agreement: share of held-out rows with the gold's likeliest class; None for numbers and of the gold.
        seconds: to train or sample.
        seconds_per_1000: to predict 1,000 rows by its draws, after the first call.
        size: bytes of the saved draws.
        num_samples: S, draws averaged over.
        message: what the method has to say, or why it failed.
        draws: the posterior; None where it failed.
    """

    label: str
    scores: dict[str, float] = dataclasses.field(default_factory=dict)
    near: Distance | None = None
    far: Distance | None = None
    agreement: float | None = None
    seconds: float = 0.0
    seconds_per_1000: float = 0.0
    size: int = 0
    num_samples: int = 0
    message: str = ""
    draws: Draws | None = None

    @property
    def method(self) -> str:
        """The label without its options."""
        return self.label.split()[0]

    @property
    def failed(self) -> bool:
        """Whether it gave no posterior."""
        return self.draws is None

    def numbers(self) -> dict[str, Any]:
        """All but the draws, JSON-able."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "draws"}
        return {**fields, "near": _as_dict(self.near), "far": _as_dict(self.far)}


def _as_dict(found: Distance | None) -> dict[str, float] | None:
    return None if found is None else dataclasses.asdict(found)


def contestants(
    path: Any, methods: Iterable[str], overrides: Iterable[str] = (), allow_imports: bool = False
) -> list[Contestant]:
    """The gold and each method, with their recipes.

    Args:
        path: of the recipe.
        methods: "METHOD", or "METHOD key=value ...": a key without a dot is an option of the method, one with a dot
            a setting of the recipe ("VariationalInference model.layer=DenseReparameterization"), but for data and
            likelihood, which all share. The first of NUTS is the gold; where there is none, NUTS as it is.
        overrides: settings of all.
        allow_imports: as in `Recipe.from_yaml`.

    Raises:
        InvalidInput: for unknown methods or settings.
    """
    methods = list(methods)
    gold = next((spec for spec in methods if spec.split()[:1] == [GOLD]), GOLD)
    if gold in methods:
        methods.remove(gold)
    specs = [gold, *methods]
    doubled = next((spec for spec in specs if specs.count(spec) > 1), None)
    if doubled:
        raise invalid("--methods", "methods that differ", doubled)
    return [Contestant(spec, Recipe.from_yaml(path, [*overrides, *_settings(spec)], allow_imports)) for spec in specs]


def _settings(spec: str) -> list[str]:
    method, *settings = spec.split() or [""]
    if method not in METHODS:
        raise invalid("--methods", f"methods, each one of {', '.join(METHODS)}, with or without key=value", spec)
    shared = next((setting for setting in settings if setting.split(".")[0] in SHARED), None)
    if shared:
        raise invalid("--methods", "settings of one method", shared, f"All share it: --set {shared}.")
    return [f"inference.method={method}", *(s if "." in s.split("=")[0] else f"inference.{s}" for s in settings)]


def compare(
    entries: list[Contestant],
    tell: Callable[[str], None] = lambda label: None,
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: Callable[[str, int, int], None] = lambda label, steps, total: None,
) -> Iterator[Result]:
    """Trains and measures each entry; the first is the gold, and one that fails tells why.

    Args:
        entries: of `contestants`.
        tell: called with the label of each before it is trained.
        checkpoint: folder for the state of the gold, which takes longest; None: none is kept.
        resume: the gold goes on from there, or is taken from there where it had ended.
        progress: told (label, steps made, of how many) by methods that sample.

    Raises:
        InvalidInput: where the data cannot be read, or the gold fails.
    """
    data = prepare_data(entries[0].recipe)
    near, y = data.arrays(data.held_out)
    far = far_rows(data)
    gold: dict[str, Prediction] = {}
    for entry in entries:
        tell(entry.label)
        try:
            kept = None if gold else checkpoint
            going_on = resume and kept is not None
            told = _labelled(progress, entry.label)
            fit = functools.partial(fit_method, checkpoints=kept, resume=going_on, progress=told)
            result, predictions = _measure(entry, data, {"near": near, "far": far}, y, gold, fit)
        except (InvalidInput, FloatingPointError) as error:
            if not gold:
                raise
            yield Result(entry.label, message=str(error))
            continue
        gold = gold or predictions
        yield result


def check_options(entries: list[Contestant], data: PreparedData) -> None:
    """Raises where a method refuses its options, before the first one is trained."""
    for entry in entries:
        build_method(entry.recipe, dataclasses.replace(data, likelihood=own_likelihood(data.likelihood)))


def _labelled(progress: Callable[[str, int, int], None], label: str) -> Progress:
    return lambda made, of_how_many, numbers: progress(label, made, of_how_many)


def far_rows(data: PreparedData) -> np.ndarray:
    """Held-out rows `FAR` times as far from the centre of the training rows, in all directions, [B, D] encoded.

    The values of each feature are shuffled among the rows, so that they lie also where no feature goes with another.
    """
    centre = data.arrays(data.train)[0].mean(axis=0)
    apart = data.arrays(data.held_out)[0] - centre
    shuffled = np.random.default_rng(0).permuted(apart, axis=0)
    return (centre + FAR * shuffled).astype(np.float32)


def _measure(
    entry: Contestant,
    data: PreparedData,
    rows: dict[str, np.ndarray],
    y: np.ndarray,
    gold: dict[str, Prediction],
    fit: Callable[..., Draws],
) -> tuple[Result, dict[str, Prediction]]:
    recipe = entry.recipe
    data = dataclasses.replace(data, likelihood=own_likelihood(data.likelihood))
    method = build_method(recipe, data)
    begin = time.perf_counter()
    draws = fit(recipe, data, method)
    seconds = time.perf_counter() - begin
    num_samples = draws.at_most(recipe.prediction.num_samples if gold else GOLD_DRAWS)
    predictions = {name: predict_distribution(draws, x, num_samples) for name, x in rows.items()}
    far_from = {name: distance(predictions[name], gold[name]) for name in rows} if gold else {}
    is_classifier = data.likelihood.is_classifier
    result = Result(
        entry.label,
        scores=score(predictions["near"], y, recipe.prediction.level),
        near=far_from.get("near"),
        far=far_from.get("far"),
        agreement=agreement(predictions["near"], gold["near"]) if gold and is_classifier else None,
        seconds=seconds,
        seconds_per_1000=_seconds_to_predict(draws, rows["near"], num_samples),
        size=_size(draws),
        num_samples=num_samples,
        message=str(getattr(draws, "metadata", {}).get("message", "")),
        draws=draws,
    )
    return result, predictions


def _seconds_to_predict(draws: Draws, x: np.ndarray, num_samples: int) -> float:
    """Median of some rounds, for 1,000 rows."""
    rows = np.resize(x, (TIMED_ROWS, *x.shape[1:]))
    predict_distribution(draws, rows, num_samples)
    times = []
    for _ in range(TIMED_ROUNDS):
        begin = time.perf_counter()
        predict_distribution(draws, rows, num_samples)
        times.append(time.perf_counter() - begin)
    return float(np.median(times))


def _size(draws: Draws) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "draws.keras"
        draws.save(path)
        return path.stat().st_size
