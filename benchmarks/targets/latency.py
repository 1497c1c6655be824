"""Target 4: one row after another through an exported MLP 8-50-50-1, S = 100, loaded by `tf.saved_model.load` alone.

The process that answers imports TensorFlow and nothing of tfbnn or Keras. A request is a row that is NumPy and none
that was asked before, in; all outputs of `serving_default` as NumPy, out; both inside the clock. The first requests,
which load kernels, are not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.targets import apart
from benchmarks.targets.outcome import Outcome, Target

SAMPLES, WARM_UP = 100, 100
WORK = f"one row through the exported MLP 8-50-50-1, S={SAMPLES}, warm"
TARGETS = {"p50": Target(4, f"{WORK}: p50", 2, "ms"), "p99": Target(4, f"{WORK}: p99", 6, "ms")}


def measure(given: argparse.Namespace) -> list[Outcome]:
    """Exports here, asks in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = export(Path(folder) / "1")
        told = apart.run("latency", path, given.requests, threads=given.threads, device=given.device)
    milliseconds = 1e3 * np.asarray(told["seconds"])
    shares = {"p50": 50, "p90": 90, "p99": 99, "most": 100}
    found = {name: float(np.percentile(milliseconds, share)) for name, share in shares.items()}
    line = ", ".join(f"{name} {value:.2f} ms" for name, value in found.items())
    details = [f"{len(milliseconds):,} requests, {given.threads} threads: {line}"]
    return [Outcome(target, found[name], details=details if name == "p50" else []) for name, target in TARGETS.items()]


def export(path: Path) -> str:
    """A SavedModel of a net that was not trained, which changes no time."""
    import keras

    import tfbnn

    make = tfbnn.layers.DenseFlipout
    network = keras.Sequential([keras.Input((8,)), make(50, "relu"), make(50, "relu"), make(1)])
    model = tfbnn.BayesianModel(network, tfbnn.likelihoods.Normal(), num_data=1000, seed=0)
    return tfbnn.export_saved_model(model, path, num_samples=SAMPLES)


def seconds_of_requests(path: str, requests: int) -> list[float]:
    """Of each request, one after the other."""
    import tensorflow as tf

    threads, device = int(os.environ["BENCHMARK_THREADS"]), os.environ["BENCHMARK_DEVICE"]
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    rows = np.random.default_rng(0).normal(size=(WARM_UP + requests, 1, 8)).astype(np.float32)
    seconds = []
    with tf.device({"cpu": "/CPU:0", "gpu": "/GPU:0"}[device]):
        loaded = tf.saved_model.load(path)
        serve = loaded.signatures["serving_default"]
        for row in rows:
            begin = time.perf_counter()
            answer = serve(inputs=tf.constant(row))
            {name: tensor.numpy() for name, tensor in answer.items()}
            seconds.append(time.perf_counter() - begin)
    return seconds[WARM_UP:]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("path")
    parser.add_argument("requests", type=int)
    told = parser.parse_args()
    print(json.dumps({"seconds": seconds_of_requests(told.path, told.requests)}))
