"""NormalizingFlow: where it begins, its density, draws of every source, a ridge that bends, what is refused."""

import keras
import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

import tfbnn
from gaussian import softplus
from tfbnn.core.checks import InvalidInput
from tfbnn.layers import DenseFlipout, DenseReparameterization
from tfbnn.posteriors import NormalizingFlow
from tfbnn.posteriors.normalizing_flow import orders

tfd = tfp.distributions


def built(shape=(3, 2), spread=0.5, **arguments):
    """q of a tensor whose couplings bend: all their weights are random, the same in every run."""
    layer = keras.layers.Layer()
    layer.seed = 1
    q = NormalizingFlow(**{"num_flows": 3, "hidden": 5, "initial_rho": -1.0, **arguments}).build(layer, "w", shape)
    rng = np.random.default_rng(0)
    for weight in layer.trainable_weights:
        weight.assign(weight + spread * rng.standard_normal(weight.shape))
    return layer, q


def normals(*shape):
    return np.random.default_rng(1).standard_normal(shape).astype("f")


def test_it_begins_nearly_as_a_mean_field():
    layer = keras.layers.Layer()
    layer.seed = 1
    q = NormalizingFlow(initial_rho=-1.0).build(layer, "w", (30, 4))
    eps = normals(100, 30, 4)
    moved = np.abs((q.transform(eps) - q.loc.numpy()) / softplus(-1.0) - eps)
    assert moved.mean() < 0.15
    _, bent = built((30, 4))
    assert np.abs((bent.transform(eps) - bent.loc.numpy()) / softplus(bent.rho) - eps).mean() > 0.3  # twin


@pytest.mark.parametrize("n", [2, 5, 6])
def test_every_entry_is_moved_and_comes_back(n):
    into, back = orders(n, 4)
    names, moved = np.arange(n), set()
    for order in into:
        names = names[order]
        moved |= set(names[n // 2 :])
    assert moved == set(range(n))
    np.testing.assert_array_equal(names[back], np.arange(n))


def by_jacobian(q, eps):
    """log Normal(eps; 0, I) - log |det dw / d eps|, by automatic differentiation."""
    flat = tf.constant(eps.reshape(-1))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(flat)
        w = tf.reshape(q.transform(tf.reshape(flat, eps.shape)), [-1])
    jacobian = tape.jacobian(w, flat, experimental_use_pfor=False).numpy().astype(float)
    return scipy.stats.norm.logpdf(eps).sum() - np.linalg.slogdet(jacobian)[1]


@pytest.mark.parametrize("shape", [(3, 2), (5,), (1,), (2, 1, 2, 3)])
def test_the_density_is_that_of_bent_normals(shape):
    _, q = built(shape)
    for eps in normals(2, *shape):
        w = q.transform(tf.constant(eps))
        assert float(q.distribution().log_prob(w)) == pytest.approx(by_jacobian(q, eps), abs=2e-4)
    assert float(q.distribution().log_prob(w + 0.1)) != pytest.approx(by_jacobian(q, eps), abs=0.02)  # twin


def test_many_draws_at_once_are_the_draws():
    _, q = built()
    eps = normals(4, 5, 3, 2)
    together = q.transform(tf.constant(eps))
    one_by_one = [[q.transform(tf.constant(part)) for part in row] for row in eps]
    np.testing.assert_allclose(together, one_by_one, rtol=1e-5, atol=1e-5)
    densities = q.distribution().log_prob(together)
    assert densities.shape == (4, 5)
    np.testing.assert_allclose(densities[1, 2], q.distribution().log_prob(together[1, 2]), rtol=1e-5)


def test_tfps_own_samples_have_the_density():
    """In 2 dimensions: the shares of 40,000 samples in 16 cells against the density's integrals, by chi squared."""
    _, q = built((2, 1), spread=0.7)
    drawn = q.distribution().sample(40_000, seed=(1, 2)).numpy().reshape(-1, 2)
    edges = [np.quantile(drawn[:, i], [0.001, 0.2, 0.5, 0.8, 0.999]) for i in range(2)]
    counts = np.histogram2d(*drawn.T, bins=edges)[0]
    steps = (np.arange(240) + 0.5) / 240  # at 60 a density that bends sharply is integrated 6 standard errors wrong
    middles = [(own[:-1, None] + np.diff(own)[:, None] * steps).ravel() for own in edges]
    grid = np.stack(np.meshgrid(*middles, indexing="ij"), axis=-1).astype("f")
    density = np.exp(q.distribution().log_prob(grid[..., None]).numpy().astype(float))
    cells = density.reshape(4, 240, 4, 240).mean(axis=(1, 3)) * np.outer(*map(np.diff, edges))
    z = (counts / 40_000 - cells) / np.sqrt(cells * (1 - cells) / 40_000)
    assert cells.sum() > 0.98
    assert np.abs(z).max() < 5
    assert np.abs((counts.T / 40_000 - cells) / np.sqrt(cells / 40_000)).max() > 5  # twin: axes exchanged


# --- a ridge that bends -----------------------------------------------------------------------------------------------

WIDTH = 0.2


class Banana(tfd.Distribution):
    """w_1 ~ Normal(0, 1), w_2 ~ Normal(w_1^2 - 1, WIDTH^2), over kernels [2, 1]."""

    def __init__(self):
        super().__init__(tf.float32, tfd.FULLY_REPARAMETERIZED, validate_args=False, allow_nan_stats=True)

    def _log_prob(self, w):
        first, second = w[..., 0, 0], w[..., 1, 0]
        return tfd.Normal(0.0, 1.0).log_prob(first) + tfd.Normal(tf.square(first) - 1.0, WIDTH).log_prob(second)

    def _event_shape(self):
        return tf.TensorShape([2, 1])

    def _batch_shape(self):
        return tf.TensorShape([])


def banana(dtype, shape, name, trainable, add_variable_fn):
    """A user's prior."""
    return Banana()


def fitted(posterior):
    """KL(q || banana) after minimising it: mean over 20,000 fresh draws, and its standard error."""
    layer = DenseReparameterization(
        1, use_bias=False, kernel_posterior_fn=posterior, kernel_prior_fn=banana, kl_weight=0.0, seed=1
    )
    layer.build((None, 2))
    q, p = layer.weight_posteriors[0], Banana()
    variables = [weight.value for weight in layer.trainable_weights]
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.02, 3000))
    optimizer.build(layer.trainable_variables)

    @tf.function
    def train():
        for number in tf.range(3000):
            with tf.GradientTape() as tape:
                w = q.transform(tf.random.stateless_normal([128, 2, 1], [7, number]))
                kl = tf.reduce_mean(q.distribution().log_prob(w) - p.log_prob(w))
            optimizer.apply(tape.gradient(kl, variables), layer.trainable_variables)

    train()
    w = q.transform(tf.constant(normals(20_000, 2, 1)))
    terms = (q.distribution().log_prob(w) - p.log_prob(w)).numpy()
    return terms.mean(), terms.std() / np.sqrt(len(terms)), layer


def best_mean_field():
    """Least KL(q || banana) over factorised Gaussians, nats: in closed form but for one number, the scale of w_1.

    At its optimum w_2 has the scale WIDTH and the mean s^2 + m^2 - 1, and E[(w_1^2 - E w_1^2)^2] = 2 s^4 + 4 m^2 s^2.
    """

    def kl(free):
        m, s = free[0], np.exp(free[1])
        return -np.log(s) - 0.5 + 0.5 * (s**2 + m**2) + (s**4 + 2 * m**2 * s**2) / WIDTH**2

    return min(scipy.optimize.minimize(kl, start).fun for start in ([0.0, -1.0], [1.0, -2.0], [-1.0, 0.0]))


def test_it_bends_where_no_gaussian_of_independent_weights_can():
    """Less than 0.05 nats, where the best mean field is more than 0.9 away; 5 standard errors are part of it."""
    assert best_mean_field() > 0.9
    kl, error, layer = fitted(NormalizingFlow(num_flows=4, hidden=16, initial_rho=0.0))
    assert kl + 5 * error < 0.05
    assert np.isfinite(layer.kl_divergence())


def test_twin_a_mean_field_stays_where_it_must():
    kl, error, _ = fitted("MeanField")
    assert kl > best_mean_field() - 5 * error


# --- in a model, and what is refused ----------------------------------------------------------------------------------


def test_predictions_take_its_draws():
    """Of a linear layer without a bias: seeded draws repeat, prefixes agree, and mean and spread are those of q."""
    layer = DenseReparameterization(1, use_bias=False, kernel_posterior_fn=NormalizingFlow(2, 4), seed=1)
    model = tfbnn.BayesianModel(
        keras.Sequential([keras.Input((3,)), layer]), tfbnn.likelihoods.Normal(scale=1.0), seed=2
    )
    rng = np.random.default_rng(0)
    for weight in layer.trainable_weights:
        weight.assign(weight + 0.5 * rng.standard_normal(weight.shape))
    rows = np.eye(3, dtype="f")
    drawn, few = (model.predict_distribution(rows, num_samples=n, seed=1).parameters[..., 0] for n in (2000, 12))
    np.testing.assert_array_equal(drawn[:12], few)
    w = layer.weight_posteriors[0].transform(tf.constant(normals(100_000, 3, 1))).numpy()[..., 0]
    assert (np.abs(drawn.mean(axis=0) - w.mean(axis=0)) < 5 * w.std(axis=0) / np.sqrt(2000)).all()
    assert np.abs(np.corrcoef(w.T) - np.eye(3)).max() > 0.2  # there is something to be right about
    assert np.abs(np.corrcoef(drawn.T) - np.corrcoef(w.T)).max() < 5 / np.sqrt(2000)


def test_tensors_that_are_too_large_are_refused():
    with pytest.raises(InvalidInput, match=r"`kernel_posterior_fn`.*4,096.*5,000 weights.*LowRank"):
        DenseReparameterization(5, kernel_posterior_fn="NormalizingFlow").build((None, 1000))


def test_estimators_that_need_independent_weights_refuse_it():
    with pytest.raises(InvalidInput, match="factorised Gaussian"):
        DenseFlipout(2, kernel_posterior_fn="NormalizingFlow").build((None, 3))


@pytest.mark.parametrize(
    "arguments", [{"num_flows": 0}, {"hidden": 1.5}, {"initial_rho": "x"}, {"initial_weight": 0.0}]
)
def test_arguments_out_of_range_are_named(arguments):
    with pytest.raises(InvalidInput, match=f"`{next(iter(arguments))}`"):
        NormalizingFlow(**arguments)
