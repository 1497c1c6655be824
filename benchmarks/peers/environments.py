"""A virtual environment for each peer, made at first use below benchmarks/.environments/: all versions stand here."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / ".environments"
SECONDS = 900.0  # that one installation may take

# The CPU build: torch's wheels for Linux on PyPI bring some GB of CUDA. PyTorch's own index has nothing else, and is
# asked for torch alone; where it cannot be reached, pip may still find the wheel in a folder or index of its settings.
_TORCH = "torch==2.13.0+cpu" if sys.platform == "linux" else "torch==2.13.0"
_CPU_INDEX = ["--extra-index-url", "https://download.pytorch.org/whl/cpu", "--retries", "1", "--timeout", "30"]
_INSTALL_TORCH = [["--no-deps", *_CPU_INDEX, _TORCH], [_TORCH, "numpy==2.4.6"]]

# Arguments of one `pip install` after the other. Both torch packages ask for torchvision and scikit-learn, which their
# linear layers do not import: hence --no-deps.
PINS: dict[str, list[list[str]]] = {
    "tfp_layers": [["tensorflow==2.21.0", "tf_keras==2.21.0", "tensorflow-probability==0.25.0", "numpy==2.4.6"]],
    "bayesian_torch": [*_INSTALL_TORCH, ["--no-deps", "bayesian-torch==0.5.0"]],
    "numpyro_nuts": [["numpyro==0.22.0", "jax[cpu]==0.10.2", "numpy==2.4.6"]],
    "blitz": [*_INSTALL_TORCH, ["--no-deps", "blitz-bayesian-pytorch==0.2.8"]],
}


class NotInstalled(Exception):
    """A peer whose packages could not be had."""


def python_of(worker: str) -> Path:
    """The interpreter that runs `worker`, made first where it is missing or its versions have changed.

    Raises:
        NotInstalled: with pip's last line, or because it took more than `SECONDS`.
    """
    if worker not in PINS:
        return Path(sys.executable)
    folder = FOLDER / worker
    python, complete = folder / "bin" / "python", folder / "complete.json"
    wanted = json.dumps({"python": sys.version, "pip": PINS[worker]})
    if not complete.is_file() or complete.read_text() != wanted:
        print(f"Installing {worker} into {folder} (once; some minutes) ...", file=sys.stderr, flush=True)
        _install(folder, python, PINS[worker])
        complete.write_text(wanted)
    return python


def _install(folder: Path, python: Path, steps: list[list[str]]) -> None:
    end = time.monotonic() + SECONDS
    _run([sys.executable, "-m", "venv", "--clear", str(folder)], end)
    for arguments in steps:
        _run([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *arguments], end)


def _run(command: list[str], end: float) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=max(1.0, end - time.monotonic())
        )
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"not installed within {SECONDS:g} s") from None
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        errors = [line for line in lines if line.startswith("ERROR:")] or lines or [f"status {done.returncode}"]
        raise NotInstalled(f"could not be installed: {errors[-1]}")
