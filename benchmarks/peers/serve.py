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
    """The weights a layer: kernel_loc and kernel_scale [D, U], bias_loc and bias_scale [U]."""
    parts = ("kernel_loc", "kernel_scale", "bias_loc", "bias_scale")
    count = sum(name.startswith("kernel_loc") for name in arrays)
    return [{part: arrays[f"{part}_{i}"] for part in parts} for i in range(count)]


def inverse_softplus(scale: np.ndarray) -> np.ndarray:
    """rho of scale = log(1 + exp(rho)), which all packages have."""
    return np.log(np.expm1(scale))
