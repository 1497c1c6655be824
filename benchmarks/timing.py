"""Times functions in turn, A B A B, so that a machine whose speed drifts favours none."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import tensorflow as tf
import tensorflow_probability as tfp

DEVICES = {"cpu": "/CPU:0", "gpu": "/GPU:0"}


def in_turn(functions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Name -> seconds of each round, after one round that is not counted."""
    for function in functions.values():
        function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            begin = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - begin)
    return seconds


def table(seconds: Mapping[str, list[float]], reference: str) -> str:
    """Markdown: medians, spread, and the median of the ratios to `reference`, round by round."""
    lines = ["| what | median ms | min - max ms | ratio |", "|---|---|---|---|"]
    for name, times in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(times, seconds[reference], strict=True))
        low, high = 1e3 * min(times), 1e3 * max(times)
        lines.append(f"| {name} | {1e3 * statistics.median(times):.1f} | {low:.1f} - {high:.1f} | {ratio:.2f} |")
    return "\n".join(lines)


def add_device(parser: argparse.ArgumentParser) -> None:
    """Adds --device to a command line."""
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="that everything runs on")


def device(kind: str) -> str:
    """TensorFlow's name of it, for `tf.device`; on the CPU, GPUs are hidden from this process, its threads too.

    Raises:
        SystemExit: with one line, where TensorFlow sees no GPU and one is asked for.
    """
    found = tf.config.list_physical_devices("GPU")
    if kind == "cpu" and found:
        tf.config.set_visible_devices([], "GPU")
    if kind == "gpu" and not found:
        sys.exit("--device gpu: TensorFlow sees no GPU here (pip install 'tfbnn[gpu]' brings the CUDA libraries).")
    return DEVICES[kind]


def device_name(kind: str) -> str:
    """What it is called by its maker."""
    if kind == "gpu":
        details = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])
        return details.get("device_name", "a GPU without a name")
    return processor()


def processor() -> str:
    """The model's name where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"


def positive(text: str) -> int:
    """A whole number above 0, of a command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, received {text!r}")
    return int(text)


def commit() -> str:
    """The commit that is measured, with a + where files differ from it."""
    folder = Path(__file__).parent
    told = subprocess.run(["git", "describe", "--always", "--dirty=+"], cwd=folder, capture_output=True, text=True)
    return told.stdout.strip() or "unknown"


def machine(kind: str = "cpu") -> str:
    """What the figures were measured on."""
    devices = ", ".join(device.device_type for device in tf.config.list_physical_devices())
    threads = tf.config.threading.get_intra_op_parallelism_threads() or "all"
    versions = f"Python {platform.python_version()}, TensorFlow {tf.__version__}, Keras {keras.__version__}"
    cores = len(os.sched_getaffinity(0))
    there = f"{platform.machine()}, {devices}, {cores} cores, {threads} threads"
    return f"on {device_name(kind)}; {there}; {versions}, TFP {tfp.__version__}"
