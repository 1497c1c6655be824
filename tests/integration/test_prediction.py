"""Prediction: the same row gets the same answer, and what is told of it agrees with itself."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import special, stats

import tfbnn
from tfbnn.prediction import monte_carlo

RNG = np.random.default_rng(0)
X = RNG.normal(size=(23, 3)).astype("float32")
LAYERS = ["DenseFlipout", "DenseReparameterization", "DenseLocalReparameterization", "DenseVariational"]
COUPLINGS = ["marginal", "coherent"]


@pytest.fixture(autouse=True)
def _same_start():
    keras.utils.set_random_seed(1)


def wide(layer):
    """Layers of more noise than at the start of training, so that uncertainty is seen."""
    posterior = tfbnn.posteriors.MeanField(initial_rho=-1.0)
    cls = getattr(tfbnn.layers, layer)
    argument = "make_posterior_fn" if layer == "DenseVariational" else "kernel_posterior_fn"
    return lambda units, **kwargs: cls(units, **{argument: posterior}, **kwargs)


def dense_network(layer="DenseFlipout", units=1):
    make = wide(layer)
    return keras.Sequential([keras.Input((3,)), make(6, activation="tanh"), make(5, activation="tanh"), make(units)])


LIKELIHOODS = {
    "Normal": lambda: tfbnn.likelihoods.Normal(),
    "Normal of two": lambda: tfbnn.likelihoods.Normal(num_targets=2),
    "HeteroscedasticNormal": lambda: tfbnn.likelihoods.HeteroscedasticNormal(),
    "HeteroscedasticNormal of two": lambda: tfbnn.likelihoods.HeteroscedasticNormal(num_targets=2),
    "Bernoulli": lambda: tfbnn.likelihoods.Bernoulli(),
    "Categorical": lambda: tfbnn.likelihoods.Categorical(3),
}
REGRESSIONS = [name for name in LIKELIHOODS if "Normal" in name]
CLASSES = ["Bernoulli", "Categorical"]


def model_of(network=None, likelihood="Normal", layer="DenseFlipout", seed=3) -> tfbnn.BayesianModel:
    made = LIKELIHOODS[likelihood]()
    if "Normal" in likelihood:
        made.adapt(5.0 + 2.0 * RNG.normal(size=(50, made.num_targets)))
    return tfbnn.BayesianModel(network or dense_network(layer, made.num_outputs), made, seed=seed)


def targets_of(model) -> np.ndarray:
    likelihood = model.likelihood
    if likelihood.is_classifier:
        return np.arange(len(X)) % likelihood.num_classes
    return (5.0 + 2.0 * RNG.normal(size=(len(X), likelihood.num_targets))).astype("float32")


# --- networks of every kind -------------------------------------------------------------------------------------------


def with_normalization_and_dropout():
    make = wide("DenseFlipout")
    layers = [make(6), keras.layers.BatchNormalization(), keras.layers.Dropout(0.5), keras.layers.Dense(4), make(1)]
    return keras.Sequential([keras.Input((3,)), *layers])


def of_two_inputs():
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    make = wide("DenseFlipout")
    joined = keras.layers.concatenate([make(4)(a), keras.layers.Dense(4)(b)])
    return keras.Model([a, b], make(1)(joined))


def of_two_named_inputs():
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    make = wide("DenseFlipout")
    return keras.Model({"a": a, "b": b}, make(1)(keras.layers.concatenate([make(4)(a), make(4)(b)])))


def with_a_layer_called_twice():
    inputs = keras.Input((3,))
    shared = wide("DenseFlipout")(3)
    return keras.Model(inputs, keras.layers.Dense(1)(shared(keras.ops.tanh(shared(inputs)))))


def of_rank_three():
    make = wide("DenseFlipout")
    layers = [keras.layers.Reshape((3, 1)), make(4, activation="tanh"), keras.layers.Flatten(), make(1)]
    return keras.Sequential([keras.Input((3,)), *layers])


def without_noise():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(1)])


def of_points():
    point = {"kernel_posterior_fn": "Deterministic", "bias_posterior_fn": "Deterministic"}
    layers = [tfbnn.layers.DenseFlipout(4, **point), tfbnn.layers.DenseReparameterization(1, **point)]
    return keras.Sequential([keras.Input((3,)), *layers])


def nested():
    make = wide("DenseFlipout")
    inner = keras.Sequential([keras.Input((3,)), make(4), make(4)])
    return keras.Sequential([keras.Input((3,)), inner, make(1)])


TWO = X, RNG.normal(size=(23, 2)).astype("float32")
NETWORKS = {
    "normalization and dropout": (with_normalization_and_dropout, X),
    "two inputs": (of_two_inputs, list(TWO)),
    "two named inputs": (of_two_named_inputs, dict(zip("ab", TWO, strict=True))),
    "layer called twice": (with_a_layer_called_twice, X),
    "rank three": (of_rank_three, X),
    "no noise": (without_noise, X),
    "points": (of_points, X),
    "nested": (nested, X),
    **{layer: (lambda layer=layer: dense_network(layer), X) for layer in LAYERS},
}


def rows(x, index):
    return keras.tree.map_structure(lambda part: part[index], x)


@pytest.fixture(params=NETWORKS)
def case(request):
    make, x = NETWORKS[request.param]
    return model_of(make()), x


# --- the same row gets the same answer --------------------------------------------------------------------------------


def _points(model) -> bool:
    return all(term.q.is_point for layer in model.variational_layers for term in layer.weight_terms)


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_same_answers_for_every_network(case, coupling):
    model, x = case

    def parameters(x, num_samples, **kwargs):
        return model.predict_distribution(x, num_samples, coupling=coupling, **kwargs).parameters

    hundred = parameters(x, 100)
    assert hundred.shape == (100, 23, 2)
    # no draw of 100 repeats another, in any block, unless there is nothing to draw
    assert len(np.unique(hundred[:, 0, 0])) == (1 if _points(model) else 100)
    np.testing.assert_array_equal(parameters(x, 100), hundred)  # seed=None: the model's own
    np.testing.assert_array_equal(parameters(x, 100, seed=3), hundred)
    np.testing.assert_array_equal(parameters(x, 10), hundred[:10])
    np.testing.assert_array_equal(parameters(x, 37), hundred[:37])
    for index in (slice(4, 5), slice(0, 2), slice(5, 23)):
        np.testing.assert_allclose(parameters(rows(x, index), 100), hundred[:, index], rtol=1e-5, atol=1e-5)
    if not _points(model):
        assert np.abs(parameters(x, 100, seed=4) - hundred).max() > 1e-2


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_a_slice_of_draws_is_the_slice(case, coupling):
    model, x = case
    x = keras.tree.map_structure(tf.constant, x)
    draws = model.posterior_draws()
    apply = tf.function(lambda start, count: draws.apply(x, 5, start, count, coupling))
    fifty = apply(tf.constant(0), tf.constant(50)).numpy()
    for start, count in [(0, 1), (9, 2), (10, 10), (13, 30), (49, 1), (20, 30)]:
        np.testing.assert_array_equal(apply(tf.constant(start), tf.constant(count)), fifty[start : start + count])
    assert apply(tf.constant(1000), tf.constant(3)).shape == (3, 23, 2)


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_more_rows_than_one_call_takes(monkeypatch, coupling):
    model = model_of()
    whole = model.predict_distribution(X, 20, coupling=coupling).parameters
    monkeypatch.setattr(monte_carlo, "ROWS_PER_CALL", 5)
    np.testing.assert_allclose(model.predict_distribution(X, 20, coupling=coupling).parameters, whole, rtol=1e-5,
                               atol=1e-5)  # fmt: skip
    monkeypatch.undo()
    many = np.repeat(X, 100, axis=0)
    assert len(many) > 2 * monte_carlo.ROWS_PER_CALL
    parameters = model.predict_distribution(many, 20, coupling=coupling).parameters
    np.testing.assert_allclose(parameters, np.repeat(whole, 100, axis=1), rtol=1e-5, atol=1e-5)


def test_layers_inside_one_another_do_not_share_noise():
    """Two layers of the same shape, and kernel and bias of one: their noise is not correlated.

    10^4 draws: the standard error of a correlation is 0.01; 0.05 is 5 of them.
    """
    identity = {"kernel_posterior_fn": tfbnn.posteriors.MeanField("zeros"), "bias_posterior_fn": "Deterministic"}
    inputs = keras.Input((1,))
    outputs = [tfbnn.layers.DenseReparameterization(1, **identity)(inputs) for _ in range(2)]
    network = keras.Model(inputs, keras.layers.concatenate(outputs))
    likelihood = tfbnn.likelihoods.Normal(num_targets=2)
    prediction = tfbnn.BayesianModel(network, likelihood, seed=1).predict_distribution(np.ones((1, 1)), 10_000)
    first, second = prediction.parameters[:, 0, :2].T
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05
    assert np.corrcoef(first, first)[0, 1] > 0.99
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.05  # nor do draws that follow one another


def test_training_mode_layers_are_still_in_prediction():
    """Dropout is off and BatchNormalization uses what it has learned: without variational layers nothing varies."""
    layers = [keras.layers.BatchNormalization(), keras.layers.Dropout(0.5), keras.layers.Dense(1)]
    model = model_of(keras.Sequential([keras.Input((3,)), *layers]))
    assert (model.predict_distribution(X, 20).epistemic_stddev == 0).all()


@pytest.mark.parametrize("make", [without_noise, of_points])
def test_without_noise_there_is_no_epistemic_part(make):
    prediction = model_of(make()).predict_distribution(X, 97)
    assert (prediction.epistemic_stddev == 0).all()
    np.testing.assert_array_equal(prediction.mean, prediction.parameters[0, :, :1])
    np.testing.assert_array_equal(prediction.aleatoric_stddev, prediction.stddev)


@pytest.mark.parametrize("likelihood", CLASSES)
def test_without_noise_classes_have_no_epistemic_part(likelihood):
    """Equal logits; their sigmoid may differ in its last bit with the place in the array (vectorised or not)."""
    units = model_of(likelihood=likelihood).likelihood.num_outputs
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units)])
    prediction = model_of(network, likelihood).predict_distribution(X, 97)
    assert (prediction.parameters == prediction.parameters[0]).all()
    assert prediction.epistemic_stddev.max() < 1e-6
    assert prediction.mutual_information.max() < 1e-6


def test_predictions_follow_the_weights():
    """What was compiled for one set of weights answers for the next."""
    model = model_of()
    before = model.predict_distribution(X, 10).mean
    model.set_weights([weight + 0.1 if weight.ndim else weight for weight in model.get_weights()])
    assert np.abs(model.predict_distribution(X, 10).mean - before).min() > 1e-4


# --- what is told of a row --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_variance_is_aleatoric_plus_epistemic(likelihood):
    prediction = model_of(likelihood=likelihood).predict_distribution(X, 50)
    draws = prediction.parameters
    means, variances = (np.asarray(f(draws), np.float64) for f in (prediction.likelihood.mean,
                                                                   prediction.likelihood.variance))  # fmt: skip
    np.testing.assert_allclose(prediction.mean, means.mean(0), rtol=1e-5)
    np.testing.assert_allclose(prediction.aleatoric_stddev, np.sqrt(variances.mean(0)), rtol=1e-5)
    np.testing.assert_allclose(prediction.epistemic_stddev, means.std(0), rtol=1e-4)  # with 1/S
    total = prediction.aleatoric_stddev.astype("float64") ** 2 + prediction.epistemic_stddev.astype("float64") ** 2
    np.testing.assert_allclose(prediction.variance, total, rtol=1e-6)
    np.testing.assert_allclose(prediction.stddev**2, prediction.variance, rtol=1e-6)
    assert prediction.epistemic_stddev.min() > 0


@pytest.mark.parametrize("likelihood", CLASSES)
def test_predictive_entropy_is_expected_plus_mutual_information(likelihood):
    prediction = model_of(likelihood=likelihood).predict_distribution(X, 50)
    p = np.asarray(prediction.likelihood.class_probabilities(prediction.parameters), np.float64)
    np.testing.assert_allclose(prediction.probabilities, p.mean(0), rtol=1e-5)
    np.testing.assert_allclose(prediction.probabilities.sum(1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(prediction.predictive_entropy, stats.entropy(p.mean(0), axis=-1), rtol=1e-5)
    np.testing.assert_allclose(prediction.expected_entropy, stats.entropy(p, axis=-1).mean(0), rtol=1e-5)
    parts = prediction.expected_entropy + prediction.mutual_information
    np.testing.assert_allclose(prediction.predictive_entropy, parts, rtol=1e-6)
    assert prediction.mutual_information.min() > 0


@pytest.mark.parametrize("likelihood", REGRESSIONS)
def test_log_prob_is_scipys_mixture(likelihood):
    model = model_of(likelihood=likelihood)
    prediction, y = model.predict_distribution(X, 50), targets_of(model)
    loc, scale = np.split(prediction.parameters.astype("float64"), 2, axis=-1)
    rows = stats.norm(loc, scale).logpdf(y).sum(-1)
    expected = special.logsumexp(rows, axis=0) - np.log(50)
    np.testing.assert_allclose(prediction.log_prob(y), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(prediction.distribution.log_prob(y), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("likelihood", CLASSES)
def test_log_prob_of_classes_is_that_of_the_mean_probability(likelihood):
    model = model_of(likelihood=likelihood)
    prediction, y = model.predict_distribution(X, 50), targets_of(model)
    expected = np.log(prediction.probabilities[np.arange(len(X)), y])
    np.testing.assert_allclose(prediction.log_prob(y), expected, rtol=1e-5)
    np.testing.assert_allclose(prediction.distribution.log_prob(y[:, None]), expected, rtol=1e-5)


@pytest.mark.parametrize("likelihood", REGRESSIONS)
def test_quantile_inverts_cdf(likelihood):
    prediction = model_of(likelihood=likelihood).predict_distribution(X, 50)
    T = prediction.likelihood.num_targets
    levels = [0.001, 0.05, 0.5, 0.9, 0.999]
    quantiles = prediction.quantile(levels)
    assert quantiles.shape == (5, len(X), T)
    for level, quantile in zip(levels, quantiles, strict=True):
        np.testing.assert_allclose(prediction.cdf(quantile), level, atol=1e-5)
        # the cdf of float32 resolves 6e-8, which at 99.9 % is 2e-5 standard deviations
        np.testing.assert_allclose(prediction.quantile(level), quantile, rtol=1e-4)
    loc, scale = np.split(prediction.parameters.astype("float64"), 2, axis=-1)
    y = loc.mean(0)
    np.testing.assert_allclose(prediction.cdf(y), stats.norm(loc, scale).cdf(y).mean(0), rtol=1e-5)
    lower, upper = prediction.interval(0.9)
    np.testing.assert_allclose(prediction.cdf(upper) - prediction.cdf(lower), 0.9, atol=1e-5)
    np.testing.assert_allclose(prediction.cdf(lower), 0.05, atol=1e-5)


@pytest.mark.parametrize("likelihood", REGRESSIONS)
def test_samples_have_the_moments_and_fill_the_interval(likelihood):
    """5,000 samples a row. Bounds of 5 standard errors for each of at most 46 numbers: false alarms below 1e-4.

    Standard errors: stddev / sqrt(n) of the mean; about stddev / sqrt(2 n) of the stddev (kurtosis of the mixture
    doubles it at most); sqrt(0.09 / n) = 0.004 of the coverage, so that 87 % would be seen.
    """
    n = 5_000
    prediction = model_of(likelihood=likelihood).predict_distribution(X, 50)
    samples = prediction.sample(n, seed=1)
    assert samples.shape == (n, len(X), prediction.likelihood.num_targets)
    np.testing.assert_array_equal(samples, prediction.sample(n, seed=1))
    assert np.abs(prediction.sample(n, seed=2) - samples).min(0).max() > 0
    error = np.abs(samples.mean(0) - prediction.mean) / prediction.stddev
    assert error.max() < 5 / np.sqrt(n)
    assert np.abs(samples.std(0) / prediction.stddev - 1).max() < 5 / np.sqrt(n)
    lower, upper = prediction.interval(0.9)
    coverage = ((samples >= lower) & (samples <= upper)).mean(0)
    assert np.abs(coverage - 0.9).max() < 5 * np.sqrt(0.09 / n)
    narrow_lower, narrow_upper = prediction.interval(0.86)
    narrow = ((samples >= narrow_lower) & (samples <= narrow_upper)).mean(0)
    assert np.abs(narrow - 0.9).max() > 5 * np.sqrt(0.09 / n)


@pytest.mark.parametrize("likelihood", CLASSES)
def test_samples_of_classes_have_their_frequencies(likelihood):
    n = 5_000
    prediction = model_of(likelihood=likelihood).predict_distribution(X, 50)
    samples = prediction.sample(n, seed=1)
    assert samples.shape == (n, len(X), 1)
    for k in range(prediction.likelihood.num_classes):
        frequency = (samples[..., 0] == k).mean(0)
        assert np.abs(frequency - prediction.probabilities[:, k]).max() < 5 * 0.5 / np.sqrt(n)


def test_two_targets_are_not_mixed_up():
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, bias_initializer="zeros")])
    likelihood = tfbnn.likelihoods.Normal(num_targets=2)
    likelihood.adapt(np.column_stack([RNG.normal(size=50), 100.0 + 10.0 * RNG.normal(size=50)]))
    prediction = tfbnn.BayesianModel(network, likelihood).predict_distribution(np.zeros((1, 3)), 10)
    np.testing.assert_allclose(prediction.mean[0], [0.0, 100.0], atol=5.0)
    np.testing.assert_allclose(prediction.stddev[0], [1.0, 10.0], rtol=0.3)
    lower, upper = prediction.interval()
    assert lower.shape == upper.shape == (1, 2)
    assert lower[0, 1] > 70


@pytest.mark.parametrize(
    ("likelihood", "expected"),
    [
        ("Normal", ["mean", "stddev", "aleatoric_stddev", "epistemic_stddev", "lower", "upper", "mc_error"]),
        (
            "Normal of two",
            [
                f"{name}_{t}"
                for name in ("mean", "stddev", "aleatoric_stddev", "epistemic_stddev", "lower", "upper", "mc_error")
                for t in (0, 1)
            ],
        ),
        (
            "Bernoulli",
            [
                "probability_0",
                "probability_1",
                "predicted_class",
                "predictive_entropy",
                "expected_entropy",
                "mutual_information",
                "mc_error_0",
                "mc_error_1",
            ],
        ),
        (
            "Categorical",
            [
                "probability_0",
                "probability_1",
                "probability_2",
                "predicted_class",
                "predictive_entropy",
                "expected_entropy",
                "mutual_information",
                "mc_error_0",
                "mc_error_1",
                "mc_error_2",
            ],
        ),
    ],
)
def test_to_frame(likelihood, expected):
    prediction = model_of(likelihood=likelihood).predict_distribution(X, 20)
    frame = prediction.to_frame(level=0.5)
    assert sorted(frame.columns) == sorted(expected)
    assert len(frame) == len(X)
    if likelihood == "Normal":
        np.testing.assert_allclose(frame["upper"], prediction.interval(0.5)[1][:, 0], rtol=1e-6)
        np.testing.assert_allclose(frame["mean"], prediction.mean[:, 0], rtol=1e-6)
    if likelihood in CLASSES:
        np.testing.assert_array_equal(frame["predicted_class"], prediction.probabilities.argmax(1))


def test_predict_is_the_mean_of_one_hundred_draws():
    model = model_of()
    np.testing.assert_allclose(model.predict(X, verbose=0), model.predict_distribution(X).mean, rtol=1e-5)


def test_a_large_offset_costs_no_digits_of_the_spread():
    """y of a million: float32 holds it to 0.06, and the mean over draws must not add to that."""
    model = model_of()
    model.likelihood.target_loc.assign([1e6])
    prediction = model.predict_distribution(X, 100)
    means = prediction.parameters[..., :1].astype("float64")
    np.testing.assert_allclose(prediction.epistemic_stddev, means.std(0), rtol=1e-4)
    assert np.abs(prediction.mean - means.mean(0)).max() <= 0.0625


# --- mixtures of very different components ----------------------------------------------------------------------------


def prediction_of(loc, scale):
    """Of one row, by the components given."""
    return tfbnn.Prediction(np.stack([loc, scale], axis=-1)[:, np.newaxis], tfbnn.likelihoods.Normal())


FAR = 1e6
DIFFERENT = {
    "scales of 1 and 1e4": ([0.0, 0.0], [1.0, 1e4]),
    "scales of 1 and 1e6": ([0.0, 3.0], [1.0, 1e6]),
    "scales of 1e-4 and 1e4": ([0.5, -2.0], [1e-4, 1e4]),
    "locations 1e6 apart": ([0.0, 1.0, FAR], [1.0, 1.0, 1.0]),
    "locations and scales": ([0.0, 0.5, -FAR], [1.0, 1.0, 1e4]),
}


@pytest.mark.parametrize("components", DIFFERENT)
def test_quantile_inverts_cdf_of_components_of_different_size(components):
    """Within 1e-4: 40 halvings of a width of 1e8 smallest scales leave 1e-4 of one, times a density of 0.4 at most.

    The levels are those whose quantile lies within the narrow components about 0, where float32 resolves them.
    """
    loc, scale = (np.array(part) for part in DIFFERENT[components])
    mixture = stats.norm(loc, scale)
    narrow = np.argmin(scale)
    levels = mixture.cdf(loc[narrow] + scale[narrow] * np.linspace(-2, 2, 9)[:, np.newaxis]).mean(1)
    prediction = prediction_of(loc, scale)
    for level, quantile in zip(levels, prediction.quantile(levels), strict=True):
        np.testing.assert_allclose(prediction.cdf(quantile), level, atol=1e-4)
        np.testing.assert_allclose(mixture.cdf(np.float64(quantile)).mean(), level, atol=1e-4)


@pytest.mark.parametrize("S", [1, 7, 1000])
def test_log_prob_of_equal_components_is_that_of_one(S):
    prediction = prediction_of(np.full(S, 2.0), np.full(S, 0.5))
    np.testing.assert_allclose(prediction.log_prob([1.5]), stats.norm(2.0, 0.5).logpdf(1.5), rtol=1e-5)


def test_probabilities_of_all_classes_by_log_prob_sum_to_one():
    prediction = model_of(likelihood="Categorical").predict_distribution(X, 50)
    each = [np.exp(prediction.log_prob(np.full(len(X), k))) for k in range(3)]
    np.testing.assert_allclose(np.sum(each, axis=0), 1.0, rtol=1e-5)


def test_the_mixture_of_predictions_weighs_members_equally():
    models = [tfbnn.BayesianModel(dense_network(), "Normal", seed=seed) for seed in range(2)]
    first, second = (model.predict_distribution(X, 20) for model in models)
    both = tfbnn.Prediction.mixture_of([first, second])
    np.testing.assert_allclose(both.mean, (first.mean + second.mean) / 2, rtol=1e-5)
    y = first.mean
    expected = np.logaddexp(first.log_prob(y), second.log_prob(y)) - np.log(2)
    np.testing.assert_allclose(both.log_prob(y), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="the same rows, draws and likelihood"):
        tfbnn.Prediction.mixture_of([first, models[1].predict_distribution(X, 10)])
