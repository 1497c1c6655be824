"""Training by other bounds than the ELBO: exact where q is the posterior, wider where it cannot be."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import optimize

import blr
import posterior_oracle as oracle
import tfbnn
import toy
from tfbnn.core.checks import InvalidInput
from tfbnn.core.noise import Seeded, seed_pair
from tfbnn.core.traversal import sublayers
from tfbnn.inference import VariationalInference
from tfbnn.layers import ConcreteDropout, DenseFlipout, DenseReparameterization, DenseVariational

BOUNDS = [("elbo", 0.5), ("importance_weighted", 0.5), ("renyi", 0.5), ("renyi", -1.0), ("renyi", 1.0), ("renyi", 3.0)]


def inverse_softplus(scale):
    return np.log(np.expm1(scale))


# --- where q is the posterior -----------------------------------------------------------------------------------------


def at_the_posterior(regression, widening=1.0, **kwargs):
    """A model whose q is the exact posterior, its scales times `widening`."""
    network = keras.Sequential([keras.Input((3,)), DenseVariational(1, make_posterior_fn="FullCovariance")])
    model = tfbnn.BayesianModel(network, oracle.likelihood(regression), seed=3, num_data=len(regression.y), **kwargs)
    q, chol = network.layers[-1].weight_posteriors[0], widening * np.linalg.cholesky(regression.covariance)
    q.loc.assign(regression.mean[:, None])
    q.rho.assign(inverse_softplus(np.diag(chol)))
    q.correlation.assign(np.tril(chol / np.diag(chol)[:, None], -1))
    return model


def bound_of(model, regression, **kwargs):
    x, y = oracle.data(regression)
    return -len(y) * float(model.objective(tf.constant(x), tf.constant(y[:, None]), **kwargs)[2])


@pytest.mark.parametrize("K", [2, 5])
@pytest.mark.parametrize(("bound", "alpha"), BOUNDS[1:])
def test_at_the_posterior_every_bound_of_every_draw_is_the_log_evidence(bound, alpha, K):
    regression = blr.example()
    model = at_the_posterior(regression, bound=bound, alpha=alpha, train_samples=K)
    assert bound_of(model, regression) == pytest.approx(regression.log_evidence(), abs=1e-3)
    twin = at_the_posterior(regression, 1.2, bound=bound, alpha=alpha, train_samples=K)
    assert bound_of(twin, regression) != pytest.approx(regression.log_evidence(), abs=1e-2)


@pytest.mark.slow
def test_in_expectation_they_are_in_order_and_grow_with_the_draws():
    """Of one q that is too wide; 60 passes each."""
    regression = blr.example()

    def mean(bound, alpha, K):
        model = at_the_posterior(regression, 1.5, bound=bound, alpha=alpha, train_samples=K)
        x, y = (tf.constant(part) for part in oracle.data(regression))
        loss = tf.function(lambda: model.objective(x, y[:, None])[2])
        return -len(y) * np.mean([float(loss()) for _ in range(60)])

    elbo, half, zero = (mean(bound, alpha, 8) for bound, alpha in (("elbo", 0), ("renyi", 0.5), ("renyi", 0.0)))
    assert elbo + 0.1 < half < zero - 0.05
    assert mean("renyi", 0.0, 2) < zero - 0.1
    assert zero < regression.log_evidence() + 0.1
    assert mean("renyi", 1.0, 8) == pytest.approx(elbo, abs=0.2)


def test_alpha_1_is_the_limit_of_its_neighbours_for_the_same_draws():
    regression = blr.example()
    losses = {}
    for bound, alpha in (("renyi", 1.0), ("renyi", 1.0 - 1e-5)):
        losses[alpha] = bound_of(
            at_the_posterior(regression, 1.5, bound=bound, alpha=alpha, train_samples=4), regression
        )
    assert losses[1.0] == pytest.approx(losses[1.0 - 1e-5], abs=1e-2)


def test_beta_weights_the_ratio_and_point_weights_keep_their_penalty():
    """One pass by hand: log w = N mean ll - beta (log q(w) - log p(w)); the point bias adds -log p(b)."""
    layer = DenseReparameterization(1, bias_posterior_fn="Deterministic", seed=1)
    model = toy.model_of(keras.Sequential([keras.Input((3,)), layer]), tfbnn.likelihoods.Normal(scale=0.5),
                         bound="renyi", alpha=0.3, train_samples=2, num_data=24)  # fmt: skip
    layer.weights[2].assign([0.7])
    sources = [Seeded(seed_pair(s), sublayers(model)) for s in (5, 6)]
    x, y = tf.constant(toy.X), tf.constant(toy.Y[:, None])
    parameters, terms, loss = model.objective(x, y, beta=0.4, passes=sources)
    f, q, p = parameters[..., 0].numpy().astype(np.float64), layer.weight_terms[0].q, layer.weight_terms[0].p
    probes = np.linalg.lstsq(np.column_stack([toy.X, np.ones(24)]), f.T, rcond=None)[0]
    kernels = probes[:3].T.astype("float32")[..., None]
    ratios = [float(q.distribution().log_prob(w) - p.distribution().log_prob(w)) for w in kernels]
    squares = ((f - toy.Y) / 0.5) ** 2
    log_likelihood = (-0.5 * squares - np.log(0.5 * np.sqrt(2 * np.pi))).sum(axis=1)
    log_weights = log_likelihood - 0.4 * np.array(ratios)
    bound = np.log(np.mean(np.exp(0.7 * (log_weights - log_weights.max())))) / 0.7 + log_weights.max()
    penalty = 0.5 * 0.7**2 + 0.5 * np.log(2 * np.pi)
    assert float(terms.penalty) == pytest.approx(penalty, rel=1e-5)
    assert float(loss) == pytest.approx((penalty - bound) / 24, rel=1e-3)


# --- training ---------------------------------------------------------------------------------------------------------


def renyi_variances(covariance, alpha):
    """Variances v of the factorised Gaussian q nearest to Normal(0, covariance): argmin D_alpha(q || p), in NumPy.

    D_alpha = 1 / (2 (1 - alpha)) log(|alpha P + (1 - alpha) V| / (|V|^(1 - alpha) |P|^alpha)) with equal means.
    """

    def divergence(log_v):
        V = np.diag(np.exp(log_v))
        mixed = np.linalg.slogdet(alpha * covariance + (1 - alpha) * V)[1]
        return (mixed - (1 - alpha) * log_v.sum()) / (2 * (1 - alpha))

    return np.exp(optimize.minimize(divergence, np.log(np.diag(covariance)), tol=1e-10).x)


def trained(regression, **kwargs):
    """(means, variances) of kernel and bias of a mean-field q."""
    x, y = oracle.data(regression)
    rate = keras.optimizers.schedules.CosineDecay(0.05, 1000)
    method = VariationalInference(oracle.network(regression, DenseReparameterization), oracle.likelihood(regression),
                                  keras.optimizers.Adam(rate), seed=1, train_samples=15, **kwargs)  # fmt: skip
    draws = method.fit(x, y, epochs=1000, batch_size=len(y), verbose=0)
    q = method.model.variational_layers[0].weight_posteriors
    assert draws.num_draws is None
    means = np.concatenate([part.loc.numpy().ravel() for part in q])
    return means, np.concatenate([np.logaddexp(0, part.rho.numpy()).ravel() ** 2 for part in q])


def correlated():
    """Two weights, whose correlation in the posterior is -0.89."""
    rng = np.random.default_rng(0)
    X = np.column_stack([(1.5 + rng.normal(size=10)).astype("float32"), np.ones(10)])
    y = (X @ [1.0, -0.5] + 0.5 * rng.normal(size=10)).astype("float32").astype(np.float64)
    return blr.LinearRegression(X, y, 0.5)


@pytest.mark.slow
def test_renyi_finds_the_wider_factorised_gaussian():
    """Its variances are 2.2 times those of the ELBO, 1 / precision_ii; alpha 0.3 would be 3.4."""
    regression = correlated()
    of_elbo = regression.mean_field()[1]
    expected = renyi_variances(regression.covariance, 0.5)
    np.testing.assert_allclose(expected / of_elbo, 2.2, rtol=0.01)
    means, variances = trained(regression, bound="renyi", alpha=0.5)
    np.testing.assert_allclose(means, regression.mean, atol=0.05)
    np.testing.assert_allclose(variances, expected, rtol=0.15)
    assert np.abs(variances / renyi_variances(regression.covariance, 0.3) - 1).min() > 0.15


def test_the_elbo_finds_the_narrow_one():
    regression = correlated()
    np.testing.assert_allclose(trained(regression)[1], regression.mean_field()[1], rtol=0.05)


@pytest.mark.parametrize(("bound", "alpha"), BOUNDS[:3])
@pytest.mark.parametrize("layer", [DenseReparameterization, DenseVariational])
def test_fit_and_train_report_the_terms_of_the_elbo(layer, bound, alpha, tmp_path):
    model = toy.model_of(toy.linear(layer), bound=bound, alpha=alpha, train_samples=2)
    assert np.isfinite(model.fit(toy.X, toy.Y, verbose=0).history["loss"]).all()
    history = toy.train(model)
    assert {"loss", "elbo", "kl", "log_likelihood"} <= set(history)
    np.testing.assert_allclose(history["elbo"], np.subtract(history["log_likelihood"], history["kl"]), rtol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert (loaded.bound, loaded.alpha) == (bound, alpha)


def test_a_network_that_calls_a_layer_twice_counts_its_weights_once():
    layer, inputs = DenseReparameterization(3, seed=1), keras.Input((3,))
    network = keras.Model(inputs, DenseReparameterization(1, seed=2)(layer(layer(inputs))))
    model = toy.model_of(network, bound="importance_weighted", train_samples=2)
    assert np.isfinite(toy.train(model)["loss"]).all()


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [DenseFlipout, lambda units: ConcreteDropout(keras.layers.Dense(units))])
def test_layers_whose_rows_have_noise_of_their_own_are_refused_before_a_step(layer):
    model = toy.model_of(toy.linear(layer), bound="renyi", train_samples=2)
    for train in (toy.train, lambda model: model.fit(toy.X, toy.Y, verbose=0)):
        with pytest.raises(InvalidInput, match="DenseReparameterization or DenseVariational"):
            train(model)


def test_a_divergence_of_the_users_own_is_refused():
    own = {"kernel_divergence_fn": lambda q, p: tf.zeros([])}
    model = toy.model_of(toy.linear(DenseReparameterization, **own), bound="renyi", train_samples=2)
    with pytest.raises(InvalidInput, match="divergence of your own"):
        toy.train(model)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"bound": "elob"}, "Did you mean 'elbo'"),
        ({"bound": "renyi", "train_samples": 1}, "train_samples"),
        ({"bound": "renyi", "alpha": np.nan, "train_samples": 2}, "alpha"),
    ],
)
def test_arguments_that_cannot_work_are_refused(arguments, told):
    with pytest.raises(InvalidInput, match=told):
        VariationalInference(toy.linear(DenseReparameterization), "Normal", **arguments)
