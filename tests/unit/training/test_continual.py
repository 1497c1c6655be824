"""Yesterday's posterior as today's prior, in Python and from a SavedModel."""

import keras
import numpy as np
import pandas as pd
import pytest

import tfbnn
from tfbnn import layers
from tfbnn.core.checks import InvalidInput
from tfbnn.data import Target
from tfbnn.pruning import prune
from tfbnn.recipes import Recipe, prepare_data
from tfbnn.recipes.before import digests, read_before
from tfbnn.recipes.run import build_method
from tfbnn.training import posterior_as_prior

RNG = np.random.default_rng(0)


def network(kind=layers.DenseFlipout, units=4, **kwargs):
    return keras.Sequential([keras.Input((3,)), kind(units, activation="tanh", **kwargs), kind(1, **kwargs)])


def trained(**kwargs):
    """A model whose means and scales are all different, as after training."""
    model = tfbnn.BayesianModel(network(**kwargs), "Normal", num_data=8, seed=3)
    for layer in model.variational_layers:
        for q in layer.weight_posteriors:
            q.loc.assign(RNG.normal(size=q.shape))
            q.rho.assign(RNG.uniform(-5, 0, size=q.shape))
    return model


def all_terms(net):
    return [term for layer in net.layers for term in layer.weight_terms]


@pytest.mark.parametrize("kind", [layers.DenseFlipout, layers.DenseVariational])
def test_prior_and_first_posterior_are_yesterdays_posterior(kind):
    yesterday = trained(kind=kind)
    today = posterior_as_prior(network(kind), yesterday)
    for term, before in zip(all_terms(today), all_terms(yesterday.network), strict=True):
        prior = term.p.distribution().distribution
        loc, scale = before.q.factorised_gaussian
        np.testing.assert_array_equal(prior.loc, loc)
        np.testing.assert_array_equal(prior.scale, scale)
        np.testing.assert_allclose(term.q.factorised_gaussian[1], scale, rtol=1e-5)
    assert abs(sum(float(layer.kl_divergence()) for layer in today.layers)) < 1e-4
    assert sum(float(layer.kl_divergence()) for layer in yesterday.network.layers) > 1  # twin: its own prior


def test_it_is_saved_with_its_prior(tmp_path):
    today = tfbnn.BayesianModel(posterior_as_prior(network(), trained()), "Normal", num_data=8, seed=3)
    today.variational_layers[0].weight_posteriors[0].loc.assign(RNG.normal(size=(3, 4)))
    today.save(tmp_path / "today.keras")
    loaded = keras.saving.load_model(tmp_path / "today.keras")
    assert float(loaded.kl_divergence()) == float(today.kl_divergence()) > 1


@pytest.mark.parametrize(
    ("net", "told"),
    [
        (lambda: network(units=5), r"kernel \[3, 5\], bias \[5\].*kernel \[3, 4\]"),
        (lambda: network(use_bias=False), "for layer"),
        (lambda: keras.Sequential([keras.Input((3,)), layers.DenseFlipout(4)]), "for 1 layers"),
        (lambda: keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), layers.DenseFlipout(1)]), "plain weights"),
        (lambda: network(layers.DenseReparameterization, kernel_posterior_fn="Deterministic"), "MeanField"),
        (lambda: keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)]), "layers have a posterior"),
    ],
)
def test_other_networks_are_refused(net, told):
    with pytest.raises(InvalidInput, match=told):
        posterior_as_prior(net(), trained())


def test_posteriors_that_are_no_gaussians_are_refused():
    points = tfbnn.BayesianModel(network(layers.DenseReparameterization, bias_posterior_fn="Deterministic"), "Normal")
    with pytest.raises(InvalidInput, match="bias of layer"):
        posterior_as_prior(network(), points)
    with pytest.raises(InvalidInput, match="pruned"):
        posterior_as_prior(network(), prune(trained(), 0.5))


# --- from a SavedModel ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two tables of one kind whose first column lies elsewhere, and yesterday's SavedModel on the first."""
    path = tmp_path_factory.mktemp("continual")
    for name, shift in (("yesterday", 0.0), ("today", 3.0)):
        x = RNG.normal([shift, 0.0], 1.0, size=(60, 2))
        y = x @ [2.0, -1.0] + RNG.normal(size=60)
        pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "y": y}).to_csv(path / f"{name}.csv", index=False)
    tfbnn.run_recipe(recipe(path, "yesterday", export={"path": str(path / "model")}))
    return path


def recipe(path, name, **sections):
    content = {"name": name, "data": {"source": str(path / f"{name}.csv"), "target": "y"}, "likelihood": "Normal",
               "model": {"hidden": [3]}, "training": {"epochs": 2}, "prediction": {"num_samples": 5}}  # fmt: skip
    return Recipe.from_dict({**content, **sections})


@pytest.mark.slow
def test_the_posterior_of_a_saved_model_is_the_prior_in_its_own_units(folder):
    loaded = tfbnn.load_saved_model(folder / "model")
    today = recipe(folder, "today")
    data = prepare_data(today, folder / "model")
    assert data.schema == loaded.schema != prepare_data(today).schema
    model = build_method(today, data).model
    layer = model.variational_layers[0]
    assert abs(float(model.kl_divergence())) < 1e-4
    variables = loaded.variables
    np.testing.assert_array_equal(layer.kernel_prior_fn.loc, variables["mlp/hidden_0/kernel_loc"])
    for variable in model.likelihood.variables:
        np.testing.assert_array_equal(variable, variables[f"{model.likelihood.name}/{variable.name}"])


@pytest.mark.slow
def test_trained_on_it_goes_on_again(folder):
    result = tfbnn.run_recipe(
        recipe(folder, "today", export={"path": str(folder / "next")}), prior_from=folder / "model"
    )
    assert tfbnn.load_saved_model(result.path).about["prior_from"] == str(folder / "model" / "1")
    assert len(read_before(result.path).rows) == 2 * len(read_before(folder / "model").rows)
    kernel = result.model.variational_layers[0].weight_posteriors[0]
    np.testing.assert_allclose(
        read_before(result.path).gaussians[0]["kernel"][1], kernel.factorised_gaussian[1], rtol=1e-6
    )


def test_rows_that_it_was_trained_on_are_not_counted_twice(folder):
    """Whatever the order of rows and columns, their split, and further rows or columns beside them."""
    rows = pd.read_csv(folder / "yesterday.csv")
    rows.sample(frac=1, random_state=0)[["y", "b", "a"]].assign(c=1).to_csv(folder / "shuffled.csv", index=False)
    both = pd.concat([rows, pd.read_csv(folder / "today.csv")])
    both.to_csv(folder / "both.csv", index=False)
    for name in ("yesterday", "shuffled", "both"):
        with pytest.raises(InvalidInput, match=r"`data\.source`.*count them twice"):
            prepare_data(recipe(folder, name, seed=5), folder / "model")
    pd.concat([rows.head(5), pd.read_csv(folder / "today.csv")]).to_csv(folder / "few.csv", index=False)
    known = prepare_data(recipe(folder, "few"), folder / "model").num_known
    assert known == np.isin(digests_of(rows.head(5), folder), read_before(folder / "model").rows).sum() > 0
    assert prepare_data(recipe(folder, "today"), folder / "model").num_known == 0


def digests_of(rows, folder):
    loaded = tfbnn.load_saved_model(folder / "model")
    return digests(loaded.schema.encode(rows), Target.from_dict(loaded.about["target"]).encode(rows["y"]))


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"model": {"hidden": [4]}}, "`--prior-from`"),
        ({"model": {"hidden": [3], "posterior": {"class": "FullCovariance"}, "layer": "DenseVariational"}},
         "`--prior-from`"),
        ({"likelihood": "StudentT"}, "`likelihood`.*Normal"),
        ({"inference": {"method": "SWAG"}}, r"`inference\.method`"),
        ({"data": {"source": "sklearn:diabetes", "target": "target"}}, "`columns`"),
    ],
)  # fmt: skip
def test_what_cannot_go_on_is_told(folder, sections, told):
    today = recipe(folder, "today", **sections)
    with pytest.raises(InvalidInput, match=told):
        build_method(today, prepare_data(today, folder / "model"))


@pytest.mark.slow
def test_models_to_go_on_from_that_are_none(folder, tmp_path):
    with pytest.raises(InvalidInput, match="absent"):
        prepare_data(recipe(folder, "today"), tmp_path / "absent")
    path = tfbnn.export_saved_model(trained(), tmp_path / "arrays", 2)
    with pytest.raises(InvalidInput, match="which tells its columns"):
        prepare_data(recipe(folder, "today"), path)
    points = recipe(folder, "today", model={"hidden": [3], "layer": "DenseReparameterization",
                    "posterior": "Deterministic"}, export={"path": str(tmp_path / "points")})  # fmt: skip
    tfbnn.run_recipe(points)
    with pytest.raises(InvalidInput, match=r"`--prior-from`.*MeanField"):
        prepare_data(recipe(folder, "today"), tmp_path / "points")
