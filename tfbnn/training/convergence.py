"""Whether Markov chains have converged: R-hat and effective sample sizes, by ArviZ, and the words for them."""

from __future__ import annotations

import dataclasses
import importlib
import warnings
from typing import Any

import numpy as np

from tfbnn.core.checks import invalid

LARGEST_RHAT = 1.05
SMALLEST_ESS = 100.0
INSTALL = "pip install 'tfbnn[mcmc]'"


class NotConverged(UserWarning):
    """Markov chains whose draws are not yet those of the posterior, as far as diagnostics tell."""


@dataclasses.dataclass(frozen=True)
class Convergence:
    """Diagnostics of numbers that were computed at each draw of each chain; None where they could not be.

    Attributes:
        rhat: the largest rank-normalised split R-hat; near 1 where chains agree.
        ess_bulk, ess_tail: the smallest effective sample sizes, of means and of 5 % and 95 % quantiles.

    Reference: Vehtari et al. 2021, "Rank-normalization, folding, and localization: an improved R-hat".
    """

    rhat: float | None
    ess_bulk: float | None
    ess_tail: float | None


def convergence(values: Any) -> Convergence:
    """Diagnostics of values [C, T, K], the worst of K numbers; those that never change are left out.

    Raises:
        ImportError: where ArviZ is missing.
    """
    az = arviz()
    values = np.asarray(values, np.float64)
    values = values[..., np.ptp(values, axis=(0, 1)) > 0]
    if values.shape[-1] == 0 or values.shape[1] < 4 or not np.isfinite(values).all():
        return Convergence(None, None, None)
    xarray = importlib.import_module("xarray")  # ArviZ stands on it, and would warn of more chains than draws itself
    data = xarray.Dataset({"values": (["chain", "draw", "number"], values)})
    with np.errstate(divide="ignore", invalid="ignore"):  # chains that do not move have no variance to divide by
        rhat = float(np.nan_to_num(az.rhat(data)["values"].values, nan=np.inf).max()) if len(values) > 1 else None
        ess = (az.ess(data, method=method)["values"].values for method in ("bulk", "tail"))
        bulk, tail = (float(np.nan_to_num(sizes, nan=0.0).min()) for sizes in ess)
    return Convergence(rhat, bulk, tail)


def arviz() -> Any:
    """The module, which is imported when it is asked for.

    Raises:
        ImportError: where it is missing.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # ArviZ 0.23 tells at its import that it will change
        return importlib.import_module("arviz")


def needed_arviz(where: str) -> Any:
    """The module, for what cannot do without.

    Raises:
        InvalidInput: where it is missing.
    """
    try:
        return arviz()
    except ImportError:
        raise invalid(where, "ArviZ to be installed", "none", f"Install it: {INSTALL}.") from None


def judged(predictions: Any, log_joint: Any) -> dict[str, Any]:
    """What the metadata of draws tell of their convergence.

    Args:
        predictions: [C, T, K]: what the chains predict, because weights of a net can be swapped and have no one value.
        log_joint: [C, T].

    Returns:
        rhat_max, ess_bulk_min, ess_tail_min (of both; None where they are not known), converged, message.
    """
    try:
        each = {"predictions": convergence(predictions), "the log joint density": convergence(log_joint[..., None])}
    except ImportError:
        told = f"Not checked: R-hat and effective sample sizes need ArviZ, which is missing. Install it: {INSTALL}."
        return {"rhat_max": None, "ess_bulk_min": None, "ess_tail_min": None, "converged": False, "message": told}
    faults = [fault for name, found in each.items() for fault in _faults(name, found)]
    told = f"Not converged: {'; '.join(faults)}. {_MEND}" if faults else "Converged, as far as diagnostics tell."
    return {
        "rhat_max": _worst(max, [found.rhat for found in each.values()]),
        "ess_bulk_min": _worst(min, [found.ess_bulk for found in each.values()]),
        "ess_tail_min": _worst(min, [found.ess_tail for found in each.values()]),
        "converged": not faults,
        "message": told,
    }


_MEND = (
    "Draw more (num_draws, warmup), thin less, or choose DeepEnsemble or VariationalInference where chains stay in "
    "modes of their own."
)


def _faults(name: str, found: Convergence) -> list[str]:
    if found.ess_bulk is None:
        return [f"{name} cannot be judged (4 draws a chain or more, finite and not all alike, are needed)"]
    if found.rhat is None:
        return [f"R-hat of {name} needs 2 chains or more"]
    if found.rhat >= LARGEST_RHAT:
        return [f"R-hat of {name} is {found.rhat:.2f} (should be below {LARGEST_RHAT})"]
    if found.ess_bulk < SMALLEST_ESS:
        return [f"the draws of {name} are worth {found.ess_bulk:.0f} independent ones (should be {SMALLEST_ESS:.0f})"]
    return []


def _worst(choose: Any, values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return choose(known) if len(known) == len(values) else None
