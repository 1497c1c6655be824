"""The parent's side of a worker: starts it, asks it one thing after another, and never waits for ever."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class WorkerFailed(Exception):
    """A worker that answered with an error, not at all, or too late."""


class Worker:
    """One process that answers JSON lines.

    Args:
        command: what to run.
        threads: how many threads it may use.
        device: "cpu" or "gpu".
        seconds: how long one answer may take before the process is ended.
    """

    def __init__(self, command: Sequence[str], threads: int = 2, device: str = "cpu", seconds: float = 300.0):
        self.seconds = seconds
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - stderr: a pipe that nobody reads would fill up
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said,
            env=environment(threads, device), text=True,
        )  # fmt: skip

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """The answer to one request."""
        late = threading.Event()
        timer = threading.Timer(self.seconds, lambda: (late.set(), self._process.kill()))
        timer.start()
        try:
            answer = self._exchange({"do": do, **request})
        finally:
            timer.cancel()
        if answer is None:
            raise WorkerFailed(f"no answer within {self.seconds:g} s" if late.is_set() else self._last_words())
        if "error" in answer:
            raise WorkerFailed(answer["error"])
        return answer

    def _exchange(self, request: Mapping[str, Any]) -> dict[str, Any] | None:
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            return None
        return json.loads(line) if line else None

    def _last_words(self) -> str:
        self._process.kill()  # in case it closed stdout and went on
        status = self._process.wait()
        self._said.seek(0)
        lines = self._said.read().strip().splitlines()
        return lines[-1] if lines else f"it ended with status {status}"

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._said.close()


def command(python: Path | str, worker: str) -> list[str]:
    """Runs a module of this folder. -P: its own name must not hide the package of that name that it imports."""
    return [str(python), "-P", "-m", f"benchmarks.peers.{worker}"]


def environment(threads: int, device: str = "cpu") -> dict[str, str]:
    """The variables of a process that measures; processes on one GPU share its memory, a bit at a time."""
    told = {"BENCHMARK_THREADS": str(threads), "OMP_NUM_THREADS": str(threads), "TF_CPP_MIN_LOG_LEVEL": "3"}
    where = {"CUDA_VISIBLE_DEVICES": "-1"} if device == "cpu" else {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    return {**os.environ, **told, **where, "BENCHMARK_DEVICE": device, "PYTHONPATH": str(ROOT)}
