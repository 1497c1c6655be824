"""Target 8: the memory of a prediction of S = 1,000 draws beside that of S = 10, beyond the result [S, B, P] itself.

Each in a process of its own. Measured: the peak of the process while it predicts (Linux's VmHWM, set back just
before), less what it held when the net had been built and nothing had been predicted, less the bytes of the result.
Tracing the graph is part of both. What the process held before would hide all else: the ratio of the whole peaks is
told beside it. On a GPU it is the device's memory, by TensorFlow's own count.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.targets import apart
from benchmarks.targets.outcome import Outcome, Target

ROWS, FEW, MANY = 1024, 10, 1000
MIB = 2**20
TARGET = Target(8, f"peak memory of predict, the MLP, B={ROWS:,}: S={MANY:,} against S={FEW}, beyond [S, B, P]", 1.5)


def measure(given: argparse.Namespace) -> list[Outcome]:
    """Two processes."""
    few, many = (apart.run("memory", samples, threads=given.threads, device=given.device) for samples in (FEW, MANY))
    details = [
        f"S={samples:,}: {beyond(told) / MIB:.0f} MiB beyond the result of {told['result'] / MIB:.0f} MiB and the "
        f"{told['before'] / MIB:.0f} MiB before; peak {told['peak'] / MIB:.0f} MiB"
        for samples, told in ((FEW, few), (MANY, many))
    ]
    whole = (many["peak"] - many["result"]) / (few["peak"] - few["result"])
    details.append(f"with what was held before counted in: {whole:.2f} x")
    return [Outcome(TARGET, beyond(many) / beyond(few), details=details)]


def beyond(told: dict[str, int]) -> int:
    """Bytes that the prediction needed for a time."""
    return told["peak"] - told["before"] - told["result"]


def peak_of(call: Callable[[], np.ndarray], device: str = "cpu") -> dict[str, int]:
    """Bytes held before, at the peak of the call, and of its result.

    Raises:
        NotImplementedError: on a system without Linux's /proc.
    """
    if device == "gpu":
        return _peak_on_gpu(call)
    refs = Path("/proc/self/clear_refs")
    if not refs.exists():
        raise NotImplementedError("peaks are read from Linux's /proc")
    refs.write_text("5")  # sets the peak back to what is held now
    before = _status("VmRSS")
    result = call()
    return {"before": before, "peak": _status("VmHWM"), "result": result.nbytes}


def _peak_on_gpu(call: Callable[[], np.ndarray]) -> dict[str, int]:
    import tensorflow as tf

    tf.config.experimental.reset_memory_stats("GPU:0")
    before = tf.config.experimental.get_memory_info("GPU:0")["current"]
    result = call()
    return {"before": before, "peak": tf.config.experimental.get_memory_info("GPU:0")["peak"], "result": result.nbytes}


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    [kibibytes] = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return 1024 * int(kibibytes)


def predict(samples: int) -> dict[str, int]:
    """In this process."""
    import tensorflow as tf

    from benchmarks.prediction import INPUTS, bayesian_mlp

    device = os.environ["BENCHMARK_DEVICE"]
    with tf.device({"cpu": "/CPU:0", "gpu": "/GPU:0"}[device]):
        model = bayesian_mlp()
        x = np.random.default_rng(0).normal(size=(ROWS, INPUTS)).astype(np.float32)
        return peak_of(lambda: model.predict_distribution(x, samples).parameters, device)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("samples", type=int)
    print(json.dumps(predict(parser.parse_args().samples)))
