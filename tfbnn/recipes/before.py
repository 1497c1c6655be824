"""What a model that was trained before knows: its posterior, and the units in which its weights speak."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tfbnn.core.checks import InvalidInput, invalid
from tfbnn.core.positive import positive
from tfbnn.data import Schema, Table, Target
from tfbnn.export import load_saved_model
from tfbnn.likelihoods import Likelihood

OPTION = "--prior-from"


@dataclasses.dataclass(frozen=True)
class Before:
    """A SavedModel of a recipe, as what training goes on from.

    Attributes:
        path: its version folder.
        schema, target, likelihood: as they were fitted then; weights mean the same in these units alone.
        gaussians: a mapping a layer, name of the tensor -> (loc, scale).
        digest: of the rows it was trained on (`digest_of`); "" where it does not tell.
    """

    path: Path
    schema: Schema
    target: Target
    likelihood: Likelihood
    gaussians: list[dict[str, tuple[np.ndarray, np.ndarray]]]
    digest: str = ""

    def check_new(self, train: Table) -> None:
        """Raises where the rows to train on are those that the model has learned from already."""
        if self.digest and self.digest == digest_of(train):
            mend = "Its posterior knows them: as a prior it would count them twice. Give new rows alone."
            raise invalid("data.source", "other training rows than those of the model before", str(self.path), mend)

    def units(self) -> tuple[Schema, Target, Likelihood]:
        """Schema, target and likelihood."""
        return self.schema, self.target, self.likelihood


def digest_of(rows: Table) -> str:
    """The same for the same rows, in whatever order."""
    whole = pd.concat([rows.features, rows.target], axis=1).astype(str)
    return hashlib.sha256(np.sort(pd.util.hash_pandas_object(whole, index=False)).tobytes()).hexdigest()


def read_before(path: Any) -> Before:
    """Reads NAME/VERSION, or the newest version below NAME.

    Raises:
        InvalidInput: where there is no SavedModel of a recipe, or its weights are no factorised Gaussians.
    """
    try:
        served = load_saved_model(path)
    except InvalidInput as error:
        raise error.at(OPTION) if error.where == "path" else error from None
    if served.schema is None or "target" not in served.about:
        raise invalid(OPTION, "a model exported by `tfbnn train`, which tells its columns", str(served.path))
    likelihood = served.likelihood
    variables = served.variables
    for variable in likelihood.variables:
        variable.assign(variables[f"{likelihood.name}/{variable.name}"])
    weights = {name: value for name, value in variables.items() if not name.startswith(f"{likelihood.name}/")}
    return Before(
        served.path, served.schema, Target.from_dict(served.about["target"]), likelihood,
        _gaussians(weights, served.path), served.about.get("trained", {}).get("digest", ""),
    )  # fmt: skip


def _gaussians(variables: Mapping[str, np.ndarray], path: Path) -> list[dict[str, tuple[np.ndarray, np.ndarray]]]:
    """By the names that MeanField gives: LAYER/TENSOR_loc and LAYER/TENSOR_rho, scale = softplus(rho)."""
    found: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for name, loc in variables.items():
        layer, _, variable = name.rpartition("/")
        tensor = variable.removesuffix("_loc")
        rho = variables.get(f"{layer}/{tensor}_rho")
        if variable == tensor or tensor.endswith("_posterior"):
            continue
        if rho is None or rho.shape != loc.shape:
            raise _no_gaussians(path, f"another, of {tensor} in layer {layer}")
        kept = variables.get(f"{layer}/{tensor}_kept", True)
        found.setdefault(layer, {})[tensor] = loc, np.where(kept, positive(rho), 0.0)
    if not found:
        raise _no_gaussians(path, "none")
    return list(found.values())


def _no_gaussians(path: Path, received: str) -> Any:
    expected = f"a model whose weights have MeanField posteriors (VariationalInference); {path} has not"
    return invalid(OPTION, expected, received)
