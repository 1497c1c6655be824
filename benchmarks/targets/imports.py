"""Target 9: what `import tfbnn` takes where TensorFlow and TFP have been imported, in processes of their own.

The clock of one process is read before and after: the difference between two processes would be smaller than what an
import of TensorFlow differs by from one time to the next. Names that tfbnn loads when they are first asked for are
told apart.
"""

from __future__ import annotations

import argparse
import statistics

from benchmarks.targets import apart
from benchmarks.targets.outcome import Outcome, Target

TARGET = Target(9, "import tfbnn, over importing tensorflow and tensorflow_probability", 0.5, "s")
PARTS = {
    "tensorflow and tensorflow_probability": "import tensorflow, tensorflow_probability",
    "import tfbnn": "import tfbnn",
    "the first use of its layers, model and export": (
        "tfbnn.layers.DenseFlipout, tfbnn.BayesianModel, tfbnn.export_saved_model"
    ),
}


def measure(given: argparse.Namespace) -> list[Outcome]:
    """The median of some processes; the first one, which fills the disk's cache, is not counted."""
    rounds = [seconds_of(list(PARTS.values())) for _ in range(given.imports + 1)][1:]
    seconds = dict(zip(PARTS, zip(*rounds, strict=True), strict=True))
    details = [
        f"{name}: {statistics.median(times):.3f} s ({min(times):.3f} - {max(times):.3f})"
        for name, times in seconds.items()
    ]
    return [Outcome(TARGET, statistics.median(seconds["import tfbnn"]), details=details)]


def seconds_of(statements: list[str]) -> list[float]:
    """Of each of these statements of Python, one after the other in a new process."""
    timed = [f"{statement}; clock.append(time.perf_counter())" for statement in statements]
    lines = ["import json, time; clock = [time.perf_counter()]", *timed]
    return apart.run_code("\n".join([*lines, "print(json.dumps([b - a for a, b in zip(clock, clock[1:])]))"]))
