"""Makes the golden files: `python tests/golden/make.py NAME` writes artefacts that every later version must load.

A file that is there is never made anew: another version would only be asked whether it loads its own.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import pandas as pd

FOLDER = Path(__file__).parent
SAMPLES = 20


def dense() -> tuple:
    """Regression by each dense layer."""
    import tfbnn
    from tfbnn import layers

    stack = [
        layers.DenseFlipout(4, "tanh", seed=1),
        layers.DenseLocalReparameterization(4, "relu", kernel_prior_fn="EmpiricalBayesNormal", seed=2),
        layers.DenseReparameterization(3, "tanh", kernel_posterior_fn="LowRank", kernel_prior_fn="Laplace", seed=3),
        layers.DenseVariational(1, "FullCovariance", "ScaleMixture", seed=4),
    ]
    network = keras.Sequential([keras.Input((3,)), *stack])
    return tfbnn.BayesianModel(network, tfbnn.likelihoods.Normal().adapt([1.0, 2.0, 4.0]), num_data=8, seed=5), (3,)


def images() -> tuple:
    """Classes of images: convolutions, dropout, a batch normalisation with a posterior."""
    import tfbnn
    from tfbnn import layers

    stack = [
        layers.Conv2DFlipout(2, 3, activation="relu", seed=1),
        layers.Conv2DReparameterization(2, 2, kernel_posterior_fn="Radial", seed=2),
        keras.layers.MaxPooling2D(2),
        keras.layers.Flatten(),
        layers.Variational(keras.layers.BatchNormalization(), seed=3),
        layers.MCDropout(0.2, seed=4),
        layers.DenseFlipout(3, kernel_posterior_fn=tfbnn.posteriors.MeanField(initial_rho=-2.0), seed=5),
    ]
    network = keras.Sequential([keras.Input((8, 8, 1)), *stack])
    return tfbnn.BayesianModel(network, tfbnn.likelihoods.Categorical(3), num_data=8, seed=6), (8, 8, 1)


def sequences() -> tuple:
    """Counts of sequences: recurrent layers and an equation."""
    import tfbnn
    from tfbnn import layers

    stack = [
        layers.Variational(keras.layers.Bidirectional(keras.layers.GRU(2, return_sequences=True)), seed=1),
        layers.EinsumDenseFlipout("abc,cd->abd", (None, 2), bias_axes="d", seed=2),
        layers.Variational(keras.layers.LSTM(3), weights=["recurrent_kernel"], seed=3),
        layers.DenseReparameterization(1, kernel_posterior_fn="MatrixNormal", kernel_prior_fn="Horseshoe", seed=4),
    ]
    network = keras.Sequential([keras.Input((5, 3)), *stack])
    return tfbnn.BayesianModel(network, tfbnn.likelihoods.Poisson(), num_data=8, seed=5), (5, 3)


def families() -> tuple:
    """Classes by layers for big nets, and by the posteriors and priors with gates, flows and scales of their own."""
    import tfbnn
    from tfbnn import layers, posteriors, priors

    gates = {"kernel_posterior_fn": posteriors.HardConcrete("input"),
             "kernel_prior_fn": priors.SpikeAndSlab(0.5, 0.5)}  # fmt: skip
    flow = {"kernel_posterior_fn": posteriors.NormalizingFlow(2, 4, initial_rho=-2.0),
            "kernel_prior_fn": priors.HierarchicalNormal(0.5, 0.4, "input")}  # fmt: skip
    stack = [
        layers.BatchEnsemble(keras.layers.Dense(5, "tanh"), 2, seed=1),
        layers.RankOne(keras.layers.Dense(4, "tanh"), 2, seed=2),
        layers.LowRankAdapter(keras.layers.Dense(4, "tanh"), 2, seed=3),
        layers.DenseReparameterization(4, "tanh", seed=4, **gates),
        layers.DenseReparameterization(3, "tanh", seed=5, **flow),
        layers.VariationalLastLayer(3, initial_rho=-2.0, seed=6),
    ]
    network = keras.Sequential([keras.Input((3,)), *stack])
    return tfbnn.BayesianModel(network, tfbnn.likelihoods.Categorical(3), num_data=8, seed=7), (3,)


MODELS = {"dense": dense, "images": images, "sequences": sequences, "families": families}
EXPORTED = ("dense", "images", "families")


def make(name: str) -> None:
    """Writes NAME.keras, for some the SavedModel NAME/, and what they answer."""
    import tfbnn

    keras.utils.set_random_seed(1)
    model, shape = MODELS[name]()
    rng = np.random.default_rng(2)
    for variable in model.network.trainable_variables:
        variable.assign(variable + 0.2 * rng.standard_normal(variable.shape))
    x = rng.standard_normal((4, *shape)).astype(np.float32)
    model.save(FOLDER / f"{name}.keras")
    answers = {"parameters": model.predict_distribution(x, SAMPLES, seed=7).parameters}
    answers["kl"] = np.array(model.elbo_terms(x, np.ones((4, 1)), seed=8).kl)
    if name in EXPORTED:
        tfbnn.export_saved_model(model, FOLDER / name / "1", num_samples=SAMPLES, seed=7)
        answers |= served(tfbnn.load_saved_model(FOLDER / name), x)
    np.savez(FOLDER / f"{name}.npz", x=x, **answers)


def served(model: object, x: object) -> dict[str, np.ndarray]:
    """Its answers, by `served/` and their names."""
    return {f"served/{key}": value for key, value in model.predict(x).items()}  # type: ignore[attr-defined]


def table() -> None:
    """The SavedModel of a recipe: raw columns, calibration, conformal sets, referral."""
    import clinic
    import tfbnn

    rows = clinic.rows(120)
    rows.head(8).to_csv(FOLDER / "table.csv", index=False)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        rows.to_csv("rows.csv", index=False)
        sections = {"calibration": {"fraction": 0.3, "recalibration": "TemperatureScaling", "conformal": "LAC"},
                    "decision": {"refer_share": 0.25}, "export": {"path": "table/1", "report": False}}  # fmt: skip
        recipe = clinic.recipe("rows.csv", "outcome", "Bernoulli", **sections)
        tfbnn.run_recipe(tfbnn.Recipe.from_dict(recipe))
        shutil.copytree("table", FOLDER / "table")
    answers = served(tfbnn.load_saved_model(FOLDER / "table"), pd.read_csv(FOLDER / "table.csv"))
    np.savez(FOLDER / "table.npz", **{key: np.asarray(value).astype("S" if value.dtype == object else value.dtype)
                                      for key, value in answers.items()})  # fmt: skip


if __name__ == "__main__":
    for chosen in sys.argv[1:]:
        if (FOLDER / f"{chosen}.npz").exists():
            sys.exit(f"{chosen} is there; golden files are not made anew.")
        table() if chosen == "table" else make(chosen)
