"""tfbnn: Bayesian neural networks in Keras 3 - trained by the ELBO, asked in one way, served as one SavedModel."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from tfbnn._version import __version__

# The command `tfbnn` imports TensorFlow itself, after it has answered --help and silenced TensorFlow's start-up lines.
if os.path.basename(sys.argv[0]) != "tfbnn":
    from tfbnn import layers, likelihoods, objectives, posteriors, priors
    from tfbnn.core.draws import Draws, load_draws
    from tfbnn.layers import bayesianize
    from tfbnn.objectives import ElboTerms
    from tfbnn.prediction import Prediction
    from tfbnn.training import BayesianModel, select, train, train_many

# What stands on pandas, pydantic and scikit-learn is imported when it is asked for; the rest too, in the command.
_LAZY = {
    "BayesianModel": ("tfbnn.training", "BayesianModel"),
    "Draws": ("tfbnn.core.draws", "Draws"),
    "ElboTerms": ("tfbnn.objectives", "ElboTerms"),
    "Prediction": ("tfbnn.prediction", "Prediction"),
    "load_draws": ("tfbnn.core.draws", "load_draws"),
    **{family: (f"tfbnn.{family}", None) for family in ("layers", "likelihoods", "objectives", "posteriors", "priors")},
    "active": ("tfbnn.active", None),
    "bayesianize": ("tfbnn.layers", "bayesianize"),
    "calibration": ("tfbnn.calibration", None),
    "data": ("tfbnn.data", None),
    "decision": ("tfbnn.decision", None),
    "evaluation": ("tfbnn.evaluation", None),
    "export": ("tfbnn.export", None),
    "inference": ("tfbnn.inference", None),
    "pruning": ("tfbnn.pruning", None),
    "recipes": ("tfbnn.recipes", None),
    "report": ("tfbnn.report", None),
    "Recipe": ("tfbnn.recipes", "Recipe"),
    "export_saved_model": ("tfbnn.export", "export_saved_model"),
    "load_saved_model": ("tfbnn.export", "load_saved_model"),
    "plots": ("tfbnn.plots", None),
    "run_recipe": ("tfbnn.recipes", "run_recipe"),
    "select": ("tfbnn.training", "select"),
    "train": ("tfbnn.training", "train"),
    "train_many": ("tfbnn.training", "train_many"),
}

__all__ = [
    "BayesianModel",
    "Draws",
    "ElboTerms",
    "Prediction",
    "Recipe",
    "__version__",
    "bayesianize",
    "export_saved_model",
    "layers",
    "likelihoods",
    "load_draws",
    "load_saved_model",
    "objectives",
    "posteriors",
    "priors",
    "run_recipe",
    "select",
    "train",
    "train_many",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'tfbnn' has no attribute '{name}'")
    module, attribute = _LAZY[name]
    found = importlib.import_module(module)
    return found if attribute is None else getattr(found, attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
