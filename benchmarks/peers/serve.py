"""The worker's side: requests are JSON lines on stdin, answers JSON lines on stdout.

    {"do": "hello"}                                     -> {"versions": {package: version}}
    {"do": "prepare", "name": ..., "task": {...}}       -> {"kl": nats as the package reports it}
    {"do": "outputs", "name": ..., "draws": n, "to": f} -> {}, and the first row's outputs [n, P] in the file f (.npy)
    {"do": "run", "name": ...}                          -> {"seconds": of the work alone, measured here}
    {"do": "forget"}                                    -> {}, and all nets are gone

A request that raises is answered with {"error": text}; the end of stdin ends the worker. The task is documented in
`tasks.py`; the arrays it needs lie in the .npz file that it names. Nothing here imports anything but NumPy.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np


class Net(Protocol):
    """What a worker makes of a task: built with its weights, ready to run."""

    def kl(self) -> float:
        """KL(q || p) as the package reports it."""

    def outputs(self, draws: int) -> np.ndarray:
        """[draws, P] of the first row, by the same code that is timed where it can be."""

    def run(self) -> None:
        """The work that is timed: predictions end as NumPy, training ends with weights that are there."""


def device() -> str:
    """TensorFlow's name of the device that the parent asks for."""
    return "/GPU:0" if os.environ.get("BENCHMARK_DEVICE") == "gpu" else "/CPU:0"


def threads() -> int:
    """How many threads the parent asks for; the frameworks have to be told before they start."""
    return int(os.environ["BENCHMARK_THREADS"])


def serve(build: Callable[[dict, dict[str, np.ndarray]], Net], packages: Sequence[str]) -> None:
    """Answers requests until stdin ends; `build(task, arrays)` makes a `Net`."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not come between the answers
    nets: dict[str, Net] = {}
    for line in sys.stdin:
        try:
            answer = _answer(json.loads(line), nets, build, packages)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


def _answer(request: dict, nets: dict[str, Net], build: Callable, packages: Sequence[str]) -> dict[str, Any]:
    do, name = request["do"], request.get("name", "")
    if do == "hello":
        return {"versions": {package: importlib.metadata.version(package) for package in packages}}
    if do == "prepare":
        with np.load(request["task"]["arrays"]) as arrays:
            nets[name] = build(request["task"], dict(arrays))
        return {"kl": float(nets[name].kl())}
    if do == "outputs":
        np.save(request["to"], nets[name].outputs(request["draws"]))
        return {}
    if do == "run":
        begin = time.perf_counter()
        nets[name].run()
        return {"seconds": time.perf_counter() - begin}
    if do == "forget":
        nets.clear()
        return {}
    raise ValueError(f"unknown request {do!r}")


def layers(arrays: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """The weights a layer: kernel_loc and kernel_scale [D, U] or [5, 5, C, F], bias_loc and bias_scale [U] or [F]."""
    parts = ("kernel_loc", "kernel_scale", "bias_loc", "bias_scale")
    count = sum(name.startswith("kernel_loc") for name in arrays)
    return [{part: arrays[f"{part}_{i}"] for part in parts} for i in range(count)]


@dataclasses.dataclass(frozen=True)
class Step:
    """One step of a net: "convolution", "pooling" (the largest of 2 x 2), "flatten" or "dense".

    part: the weights, of convolutions and dense layers; padding: of convolutions, "same" or "valid".
    """

    kind: str
    part: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    padding: str = ""
    relu: bool = True

    @property
    def activation(self) -> str | None:
        """As Keras calls it."""
        return "relu" if self.relu else None


def steps(arrays: dict[str, np.ndarray]) -> list[Step]:
    """The net that the weights belong to: an MLP, or LeNet-5 where the first kernels are [5, 5, C, F].

    Images are [28, 28, 1]. The first convolution is padded, each is followed by pooling; all layers but the last have a
    relu. The rows of the first dense kernel are in the order height, width, channels.
    """
    parts = layers(arrays)
    convolutions = [part for part in parts if part["kernel_loc"].ndim == 4]
    net = []
    for i, part in enumerate(convolutions):
        net += [Step("convolution", part, "valid" if i else "same"), Step("pooling")]
    net += [Step("flatten")] if convolutions else []
    return net + [Step("dense", part, relu=part is not parts[-1]) for part in parts[len(convolutions) :]]


def channels_first(net: list[Step]) -> list[Step]:
    """The same net where images are [C, H, W]: the first dense kernel's rows in the order channels, height, width."""
    if net[0].kind != "convolution":
        return net
    first = next(i for i, step in enumerate(net) if step.kind == "dense")
    channels = net[first - 3].part["bias_loc"].size
    part = {name: _channels_first(values, channels) for name, values in net[first].part.items()}
    return [*net[:first], dataclasses.replace(net[first], part=part), *net[first + 1 :]]


def _channels_first(values: np.ndarray, channels: int) -> np.ndarray:
    if values.ndim == 1:
        return values
    return values.reshape(-1, channels, values.shape[1]).swapaxes(0, 1).reshape(values.shape)


def inverse_softplus(scale: np.ndarray) -> np.ndarray:
    """rho of scale = log(1 + exp(rho)), which all packages have."""
    return np.log(np.expm1(scale))
