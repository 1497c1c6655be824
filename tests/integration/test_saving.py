"""`.keras` files: written whole or not at all, read in a new process without custom_objects, to the last bit."""

from __future__ import annotations

import subprocess
import sys

import keras
import numpy as np
import pytest

import tfbnn
from tfbnn.core.checks import InvalidInput

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 3)).astype("float32")
Y = X.sum(axis=1) + 0.1 * RNG.normal(size=24).astype("float32")

LIKELIHOODS = {
    "Normal": lambda: tfbnn.likelihoods.Normal().adapt(Y),
    "Normal with a known scale": lambda: tfbnn.likelihoods.Normal(scale=0.5).adapt(Y),
    "Normal of two": lambda: tfbnn.likelihoods.Normal(num_targets=2).adapt(np.column_stack([Y, 3 * Y + 1])),
    "HeteroscedasticNormal": lambda: tfbnn.likelihoods.HeteroscedasticNormal().adapt(Y),
    "Bernoulli": lambda: tfbnn.likelihoods.Bernoulli(),
    "Categorical": lambda: tfbnn.likelihoods.Categorical(3),
}


@pytest.fixture(autouse=True)
def _same_start():
    keras.utils.set_random_seed(1)


def targets_of(name):
    classes = {"Bernoulli": Y > 0, "Categorical": np.digitize(Y, [-1, 1])}
    return np.column_stack([Y, 3 * Y + 1]) if "two" in name else classes.get(name, Y).astype("float32")


def model_of(family="Normal", **kwargs) -> tfbnn.BayesianModel:
    likelihood = LIKELIHOODS[family]()
    layers = [
        tfbnn.layers.DenseFlipout(4, activation="tanh"),
        keras.layers.BatchNormalization(),
        tfbnn.layers.DenseVariational(3, make_posterior_fn="FullCovariance"),
        tfbnn.layers.DenseReparameterization(likelihood.num_outputs, kernel_prior_fn=tfbnn.priors.Normal(scale=0.5)),
    ]
    model = tfbnn.BayesianModel(keras.Sequential([keras.Input((3,)), *layers]), likelihood, **kwargs)
    model.compile(keras.optimizers.Adam(0.01), metrics=["mse"])
    return model


def trained(family="Normal", **kwargs):
    model = model_of(family, **kwargs)
    model.fit(X, targets_of(family), epochs=2, verbose=0)
    return model


def _move_weights(model) -> None:
    for variable in model.network.weights:
        variable.assign(variable.numpy() + RNG.uniform(0.0, 0.5, size=variable.shape))


IN_A_NEW_PROCESS = """
import sys
import numpy as np
import tfbnn

paths, data, out = sys.argv[1].split(","), np.load(sys.argv[2]), sys.argv[3]
import keras
answers = {}
for i, path in enumerate(paths):
    model = keras.saving.load_model(path)
    terms = model.elbo_terms(data["x"], data[f"y{i}"], num_samples=2, seed=7)
    answers[f"elbo{i}"] = [terms.log_likelihood, terms.kl, terms.penalty, terms.beta, terms.num_data, terms.loss]
    answers[f"own{i}"] = model.predict_distribution(data["x"], 20).parameters
    answers[f"coherent{i}"] = tfbnn.load_draws(path).apply(data["x"], 5, 3, 7, "coherent")
np.savez(out, **answers)
"""


def test_a_new_process_gives_the_same_numbers_to_the_last_bit(tmp_path):
    data, paths, models = {"x": X}, [], []
    for i, name in enumerate(LIKELIHOODS):
        models.append(model_of(name, num_data=99))
        _move_weights(models[-1])
        data[f"y{i}"] = targets_of(name)
        paths.append(str(tmp_path / f"{i}.keras"))
        models[-1].save(paths[-1])
    np.savez(tmp_path / "data.npz", **data)
    answers = tmp_path / "answers.npz"
    arguments = [sys.executable, "-c", IN_A_NEW_PROCESS, ",".join(paths), str(tmp_path / "data.npz"), str(answers)]
    ran = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    answers = np.load(answers)
    for i, model in enumerate(models):
        terms = model.elbo_terms(X, data[f"y{i}"], num_samples=2, seed=7)
        expected = [terms.log_likelihood, terms.kl, terms.penalty, terms.beta, terms.num_data, terms.loss]
        np.testing.assert_array_equal(answers[f"elbo{i}"], expected)
        np.testing.assert_array_equal(answers[f"own{i}"], model.predict_distribution(X, 20).parameters)
        draws = model.posterior_draws().apply(X, 5, 3, 7, "coherent")
        np.testing.assert_array_equal(answers[f"coherent{i}"], draws)


def test_a_trained_model_is_saved_with_its_statistics_and_its_step(tmp_path):
    model = trained(beta=tfbnn.objectives.Linear(10))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    one, other = (m.elbo_terms(X, Y, num_samples=2, seed=7) for m in (model, loaded))
    assert float(one.beta) == pytest.approx(0.2)  # two steps of ten
    assert [float(one.beta), float(one.loss)] == [float(other.beta), float(other.loss)]
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))


def test_settings_are_saved(tmp_path):
    settings = {"num_data": 77, "beta": 0.5, "train_samples": 3, "num_samples": 11, "seed": 5, "name": "mine"}
    model_of(**settings).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert {name: getattr(loaded, name) for name in settings} == {**settings, "beta": tfbnn.objectives.Constant(0.5)}


def test_training_goes_on_after_loading(tmp_path):
    """The optimizer's moments and step are there: the next steps of still-noise networks are the same."""

    def of_points():
        point = {"kernel_posterior_fn": "Deterministic", "bias_posterior_fn": "Deterministic"}
        layers = [tfbnn.layers.DenseReparameterization(units, **point) for units in (4, 1)]
        model = tfbnn.BayesianModel(keras.Sequential([keras.Input((3,)), *layers]), LIKELIHOODS["Normal"]())
        model.compile(keras.optimizers.Adam(0.05))
        return model

    def go_on(model):
        return model.fit(X, Y, epochs=3, batch_size=24, verbose=0).history["loss"]

    model = of_points()
    go_on(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert int(loaded.optimizer.iterations) == 3
    fresh = keras.saving.load_model(tmp_path / "model.keras")
    fresh.compile(keras.optimizers.Adam(0.05))
    expected = go_on(model)
    np.testing.assert_allclose(go_on(loaded), expected, rtol=1e-6)
    assert np.abs(np.array(go_on(fresh)) / expected - 1).max() > 1e-4  # a fresh optimizer goes another way


def test_a_model_that_was_never_trained_or_compiled_is_saved(tmp_path):
    network = keras.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(1)])
    model = tfbnn.BayesianModel(network, "Normal")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.predict_distribution(X, 5).parameters, model.predict_distribution(X, 5).parameters
    )
    assert loaded.num_data is None


def test_draws_are_saved_by_themselves(tmp_path):
    model = trained()
    draws = model.posterior_draws()
    draws.save(tmp_path / "draws.keras")
    model.save(tmp_path / "model.keras")
    expected = draws.apply(X, 5, 0, 20)
    for name in ("draws", "model"):
        loaded = tfbnn.load_draws(tmp_path / f"{name}.keras")
        assert isinstance(loaded, tfbnn.Draws)
        assert loaded.num_draws is None
        assert loaded.seed == draws.seed
        np.testing.assert_array_equal(loaded.apply(X, 5, 0, 20), expected)


def test_what_holds_no_posterior_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match=r"path.*keras file"):
        tfbnn.load_draws(tmp_path / "missing.keras")
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]).save(tmp_path / "plain.keras")
    with pytest.raises(InvalidInput, match=r"path.*posterior.*Sequential"):
        tfbnn.load_draws(tmp_path / "plain.keras")


@pytest.mark.parametrize("what", ["model", "draws"])
def test_a_save_that_fails_leaves_nothing(tmp_path, monkeypatch, what):
    model = model_of()
    saved = model if what == "model" else model.posterior_draws()
    monkeypatch.setattr(tfbnn.layers.DenseVariational, "save_own_variables", _fail, raising=False)
    with pytest.raises(RuntimeError, match="disk is full"):
        saved.save(tmp_path / "model.keras")
    assert list(tmp_path.iterdir()) == []


def test_a_save_that_fails_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    path, model = tmp_path / "model.keras", model_of()
    model.save(path)
    before = path.read_bytes()
    monkeypatch.setattr(tfbnn.layers.DenseVariational, "save_own_variables", _fail, raising=False)
    with pytest.raises(RuntimeError, match="disk is full"):
        model.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def _fail(self, store):
    raise RuntimeError("disk is full")


def test_names_and_files_that_are_refused(tmp_path):
    model = model_of()
    for name in ("model", "model.h5", "model.tf"):
        with pytest.raises(InvalidInput, match=r"filepath.*ends in .keras.*export_saved_model"):
            model.save(tmp_path / name)
    model.save(tmp_path / "model.keras")
    with pytest.raises(InvalidInput, match=r"filepath.*overwrite=False"):
        model.save(tmp_path / "model.keras", overwrite=False)
    model.save(tmp_path / "model.keras", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]


def test_weights_alone_are_saved(tmp_path):
    model, other = trained(), model_of(seed=1)
    model.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(
        other.predict_distribution(X, 5, seed=2).parameters, model.predict_distribution(X, 5, seed=2).parameters
    )
    assert other.num_data == len(X)
