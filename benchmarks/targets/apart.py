"""A measurement in a process of its own: the module is run, and its last line of output is JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from benchmarks.peers.process import environment

SECONDS = 300.0


class Failed(Exception):
    """The process ended with an error, or too late."""


def run(module: str, *arguments: object, threads: int = 2, device: str = "cpu") -> dict[str, Any]:
    """What `python -m benchmarks.targets.MODULE ARGUMENTS` says at its end."""
    return _answer(["-m", f"benchmarks.targets.{module}", *map(str, arguments)], threads, device)


def run_code(code: str) -> Any:
    """What these lines of Python print at their end."""
    return _answer(["-c", code], threads=2, device="cpu")


def _answer(arguments: list[str], threads: int, device: str) -> Any:
    command = [sys.executable, "-P", *arguments]
    try:
        done = subprocess.run(
            command, env=environment(threads, device), capture_output=True, text=True, check=False, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"no answer within {SECONDS:g} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise Failed(lines[-1] if lines else f"it ended with status {done.returncode}")
    return json.loads(done.stdout.strip().splitlines()[-1])
