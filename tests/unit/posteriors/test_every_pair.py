"""The KL of every posterior to every prior of the two tables, against NumPy; the pairs that are refused."""

import dataclasses
import functools

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from conformance.cases import public_classes
from gaussian import kl_normal, softplus, variable
from tfbnn import posteriors, priors
from tfbnn.core.checks import InvalidInput
from tfbnn.core.noise import Seeded, noise_scope
from tfbnn.layers import DenseReparameterization
from tfbnn.layers.base import WeightTerm
from tfbnn.posteriors.normalizing_flow import orders

tfd = tfp.distributions
SHAPE = (3, 2)
DF = 5.0


def student(dtype, shape, name, trainable, add_variable_fn):
    """A user's posterior that TFP knows no KL of."""
    loc = add_variable_fn(name=name + "_loc", shape=shape, dtype=dtype, trainable=trainable)
    rho = add_variable_fn(name=name + "_rho", shape=shape, dtype=dtype, trainable=trainable)
    return tfd.Independent(tfd.StudentT(DF, loc, tf.nn.softplus(rho)), len(shape))


def shifted(dtype, shape, name, trainable, add_variable_fn):
    """A user's prior."""
    return tfd.Independent(tfd.Normal(tf.fill(shape, 0.2), 0.6), len(shape))


POSTERIORS = {
    "Deterministic": posteriors.Deterministic("he_normal"),
    "FullCovariance": posteriors.FullCovariance(),
    "HardConcrete": posteriors.HardConcrete(),
    "LowRank": posteriors.LowRank(2),
    "MatrixNormal": posteriors.MatrixNormal(),
    "MeanField": posteriors.MeanField(),
    "NormalizingFlow": posteriors.NormalizingFlow(2, 3),
    "Pruned": posteriors.Pruned(posteriors.MeanField()),
    "Radial": posteriors.Radial(),
    "TFPFunction": posteriors.TFPFunction(student),
    "UnitCovariance": posteriors.UnitCovariance(),
}
PRIORS = {
    "AnchoredNormal": priors.AnchoredNormal(0.1, 0.5),
    "EmpiricalBayesNormal": priors.EmpiricalBayesNormal(0.1, 0.7),
    "HierarchicalNormal": priors.HierarchicalNormal(0.8, 0.6, "input"),
    "Horseshoe": priors.Horseshoe(0.3),
    "Laplace": priors.Laplace(0.1, 0.5),
    "Normal": priors.Normal([0.1, -0.2], [0.5, 0.9]),
    "ScaleMixture": priors.ScaleMixture(0.3, 0.8, 0.1),
    "SpikeAndSlab": priors.SpikeAndSlab(0.3, 0.8),
    "StudentT": priors.StudentT(4.0, 0.1, 0.5),
    "TFPFunction": priors.TFPFunction(shifted),
}
SPIKED = {(q, p) for q in POSTERIORS for p in PRIORS if (q == "HardConcrete") != (p == "SpikeAndSlab")}
REFUSED = {
    **dict.fromkeys(SPIKED, "because (under HardConcrete|the prior is SpikeAndSlab)"),
    ("Deterministic", "EmpiricalBayesNormal"): "falls without end",
    ("Deterministic", "HierarchicalNormal"): "all weights vanish",
}
GAUSSIAN = ["FullCovariance", "LowRank", "MatrixNormal", "MeanField", "Pruned", "Radial", "UnitCovariance"]
NORMAL = ["AnchoredNormal", "EmpiricalBayesNormal", "HierarchicalNormal", "Normal", "TFPFunction"]
# All others are log q(w) - log p(w) at a draw.
EXACT = {
    *((q, p) for q in GAUSSIAN for p in NORMAL),
    ("MeanField", "Laplace"),
    ("Pruned", "Laplace"),
    ("TFPFunction", "HierarchicalNormal"),
    ("HardConcrete", "SpikeAndSlab"),
}
PAIRS = [(q, p) for q in POSTERIORS for p in PRIORS if (q, p) not in REFUSED and q != "Deterministic"]
SAMPLED = [pair for pair in PAIRS if pair not in EXACT]


def test_every_family_is_here():
    for package, families in ((posteriors, POSTERIORS), (priors, PRIORS)):
        assert {cls.__name__ for cls in public_classes(package)} == set(families)
        assert all(type(made).__name__ == name for name, made in families.items())
    assert set(PAIRS) >= EXACT


# --- layers -----------------------------------------------------------------------------------------------------------


def layer_of(posterior, prior):
    """A layer with that pair, whose variables are neither 0 nor equal."""
    layer = DenseReparameterization(
        2, use_bias=False, kernel_posterior_fn=POSTERIORS[posterior], kernel_prior_fn=PRIORS[prior], kl_weight=0.0,
        seed=1,
    )  # fmt: skip
    layer.build((None, 3))
    rng = np.random.default_rng(0)
    for weight in layer.trainable_weights:
        begin = -1.0 if weight.name in ("kernel_rho", "kernel_posterior_rho") else weight.numpy()
        spread = 0.1 if "_flow_" in weight.name else 0.3  # couplings that bend more have tails that draws do not tell
        weight.assign(begin + spread * rng.standard_normal(weight.shape))
    if posterior == "Pruned":
        layer.weight_posteriors[0].keep(KEPT)
    return layer


KEPT = np.array([[True, False], [True, True], [False, True]])
NUM_DRAWS = 1000


@functools.cache
def of_posterior(name):
    """The posterior of one layer, and of all priors that are sampled, by name, the prior and NUM_DRAWS KLs."""
    layers = {p: layer_of(name, p) for q, p in PAIRS if q == name}
    first = next(iter(layers.values())).weight_terms[0]
    terms = {p: dataclasses.replace(first, p=layer.weight_terms[0].p) for p, layer in layers.items()}
    sampled = [terms[p] for q, p in SAMPLED if q == name]
    kls = _kls(next(iter(layers.values())), sampled) if sampled else np.zeros([NUM_DRAWS, 0])
    by_prior = dict(zip([p for q, p in SAMPLED if q == name], kls.T, strict=True))
    return terms, by_prior


def _kls(layer, terms):
    def one(seed):
        with noise_scope(Seeded(seed, [layer])):
            return tf.stack([term.kl(layer._noise()) for term in terms])

    run = tf.function(lambda seeds: tf.map_fn(one, seeds, fn_output_signature=tf.float32))
    return run(tf.stack([tf.zeros(NUM_DRAWS, tf.int32), tf.range(NUM_DRAWS)], axis=1)).numpy().astype(float)


# --- NumPy: q ---------------------------------------------------------------------------------------------------------

NUM_REFERENCE = 1_000_000
GRID = np.sinh(np.linspace(-8, 8, 40_000))[:, None]  # of a weight's standardised law: dense at 0, to 1,490 scales
STEPS = np.gradient(GRID[:, 0])


@dataclasses.dataclass(frozen=True)
class Reference:
    """log q(w), and nodes [n, weights] over which means of a function of each weight are taken.

    Where each weight's own law is known the nodes are a grid, of which `shares` sum to 1, and `log_q` is its mean; else
    they are draws, and `log_q` has a value for each of them.
    """

    log_q: np.ndarray
    nodes: np.ndarray
    shares: np.ndarray | None = None
    kept: np.ndarray = dataclasses.field(default_factory=lambda: np.full(6, True))


def of_each_weight(law, log_q, loc, scale, kept=None):
    """Of weights loc + scale z, z of `law`, with that mean of log q."""
    kept = np.full(6, True) if kept is None else kept
    shares = law.pdf(GRID[:, 0]) * STEPS
    assert abs(shares.sum() - 1) < 1e-6
    return Reference(np.array([log_q]), loc.ravel()[kept] + scale.ravel()[kept] * GRID, shares / shares.sum(), kept)


def _arrays(parts):
    return [np.asarray(part, float) for part in parts]


def of_gaussian(mean, covariance):
    entropy = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * covariance)[1]
    return of_each_weight(scipy.stats.norm, -entropy, mean, np.sqrt(np.diag(covariance)))


def of_mean_field(q):
    loc, scale = _arrays(q.parameters())
    return of_gaussian(loc, np.diag(scale.ravel() ** 2))


def of_pruned(q):
    loc, scale = _arrays(q.base.factorised_gaussian)
    log_q = -np.sum(np.log(scale[KEPT]) + 0.5 * np.log(2 * np.pi * np.e))
    return of_each_weight(scipy.stats.norm, log_q, loc, scale, KEPT.ravel())


def of_full_covariance(q):
    loc, tril = _arrays(q.parameters())
    return of_gaussian(loc, tril @ tril.T)


def of_low_rank(q):
    loc, scale, V = _arrays(q.parameters())
    return of_gaussian(loc, np.diag(scale.ravel() ** 2) + V @ V.T)


def of_matrix_normal(q):
    loc, A, B = _arrays(q.parameters())
    return of_gaussian(loc, np.kron(A @ A.T, B @ B.T))


def of_unit_covariance(q):
    """Weight (i, u) of unit u lies at place 2 i + u."""
    loc, L = _arrays(q.parameters())
    covariance = np.zeros((6, 6))
    for u in range(2):
        covariance[u::2, u::2] = L[u] @ L[u].T
    return of_gaussian(loc, covariance)


def of_student(q):
    base = q.distribution().distribution
    loc, scale = _arrays((base.loc, base.scale))
    law = scipy.stats.t(DF)
    return of_each_weight(law, np.sum(-law.entropy() - np.log(scale)), loc, scale)


def of_radial(q):
    loc, scale = _arrays(q.parameters())
    rng = np.random.default_rng(1)
    eps, r = rng.standard_normal((NUM_REFERENCE, 6)), np.abs(rng.standard_normal(NUM_REFERENCE))
    nodes = loc.ravel() + scale.ravel() * eps / np.linalg.norm(eps, axis=1, keepdims=True) * r[:, None]
    log_sphere = np.log(2) + 3 * np.log(np.pi) - scipy.special.gammaln(3)
    log_q = scipy.stats.halfnorm.logpdf(r) - log_sphere - 5 * np.log(r) - np.log(scale).sum()
    return Reference(log_q, nodes)


def of_flow(q):
    """Draws through the couplings in float64: log q(w) = log Normal(eps) - log volume."""
    x = np.random.default_rng(2).standard_normal((NUM_REFERENCE, 6))
    log_q = -0.5 * (x**2).sum(axis=1) - 3 * np.log(2 * np.pi)
    into, back = orders(6, len(q.networks))
    for network, order in zip(q.networks, into, strict=True):
        kernel, bias, out_kernel, out_bias = _arrays(part.numpy() for part in network)
        x = x[:, order]
        out = np.tanh(x[:, :3] @ kernel + bias) @ out_kernel + out_bias
        log_scale = 2 * np.tanh(out[:, 3:] / 2)
        x[:, 3:] = x[:, 3:] * np.exp(log_scale) + out[:, :3]
        log_q -= log_scale.sum(axis=1)
    scale = softplus(q.rho).ravel()
    return Reference(log_q - np.log(scale).sum(), q.loc.numpy().ravel() + scale * x[:, back])


REFERENCES = {
    "FullCovariance": of_full_covariance,
    "LowRank": of_low_rank,
    "MatrixNormal": of_matrix_normal,
    "MeanField": of_mean_field,
    "NormalizingFlow": of_flow,
    "Pruned": of_pruned,
    "Radial": of_radial,
    "TFPFunction": of_student,
    "UnitCovariance": of_unit_covariance,
}


@functools.cache
def reference_of(name):
    return REFERENCES[name](next(iter(of_posterior(name)[0].values())).q)


# --- NumPy: log p of each weight --------------------------------------------------------------------------------------


def log_normal(w, loc, scale):
    return -0.5 * ((w - loc) / scale) ** 2 - np.log(scale) - 0.5 * np.log(2 * np.pi)


def log_horseshoe(w, scale):
    """exp(x) E_1(x) / sqrt(2 pi^3) / scale, x = w^2 / (2 scale^2): between 4,000 values of log |w|."""
    at = np.linspace(-20, 6, 4000)
    x = np.exp(2 * at) / (2 * scale**2)
    return np.interp(np.log(np.abs(w)), at, np.log(scipy.special.hyperu(1, 1, x))) - 0.5 * np.log(
        2 * np.pi**3 * scale**2
    )


def log_mixture(w):
    return np.logaddexp(np.log(0.3) + log_normal(w, 0.0, 0.8), np.log(0.7) + log_normal(w, 0.0, 0.1))


def hierarchical(w, p):
    """(E_q(tau)[log Normal(w; 0, tau^2)] of each weight, KL(q(tau) || p(tau)))."""
    m, s = p.loc.numpy().astype(float), softplus(p.rho)
    each_m, each_s = (np.broadcast_to(part, SHAPE).ravel() for part in (m, s))
    return (
        -0.5 * w**2 * np.exp(2 * each_s**2 - 2 * each_m) - each_m - 0.5 * np.log(2 * np.pi),
        kl_normal(m, s, np.log(0.8), 0.6).sum(),
    )


def log_p(name, p, w, kept):
    """log p of each weight of `nodes` [n, weights], and what is subtracted once."""
    if name == "HierarchicalNormal":
        full = np.zeros((len(w), 6))
        full[:, kept] = w
        each, once = hierarchical(full, p)
        return each[:, kept], once
    columns = {"Normal": np.tile([[0.1, 0.5], [-0.2, 0.9]], (3, 1))[kept].T}
    known = {
        "AnchoredNormal": lambda: log_normal(w, p.anchor.numpy().ravel()[kept], 0.5),
        "EmpiricalBayesNormal": lambda: log_normal(w, 0.1, softplus(p.rho)),
        "Horseshoe": lambda: log_horseshoe(w, 0.3),
        "Laplace": lambda: -np.abs(w - 0.1) / 0.5 - np.log(2 * 0.5),
        "Normal": lambda: log_normal(w, *columns["Normal"]),
        "ScaleMixture": lambda: log_mixture(w),
        "StudentT": lambda: scipy.stats.t.logpdf(w, 4.0, 0.1, 0.5),
        "TFPFunction": lambda: log_normal(w, 0.2, 0.6),
    }
    return known[name](), 0.0


def reference_kl(posterior, prior):
    """KL by NumPy, and its error: the standard error of draws, 1e-4 nats of sums over the grid."""
    q, terms = reference_of(posterior), of_posterior(posterior)[0]
    each, once = log_p(prior, terms[prior].p, q.nodes, q.kept)
    if q.shares is not None:
        return q.log_q[0] - (q.shares @ each).sum() + once, 1e-4
    summed = q.log_q - each.sum(axis=1)
    return summed.mean() + once, summed.std() / np.sqrt(len(summed))


# --- the pairs --------------------------------------------------------------------------------------------------------


def kl_of_gates(q):
    """HardConcrete to SpikeAndSlab(0.3, 0.8)."""
    log_alpha, loc, scale = _arrays(q.parameters())
    share = scipy.special.expit(log_alpha - 2 / 3 * np.log(0.1 / 1.1))
    gates = share * np.log(share / 0.3) + (1 - share) * np.log((1 - share) / 0.7)
    return (gates + share * kl_normal(loc, scale, 0.0, 0.8)).sum()


@pytest.mark.parametrize(("posterior", "prior"), sorted(EXACT))
def test_the_kl_has_a_formula(posterior, prior):
    """Of no draw at all: no noise is given. Within 5 standard errors of the reference, and of 1e-4 of rounding."""
    terms, _ = of_posterior(posterior)
    found = float(terms[prior].kl(None))
    if posterior == "HardConcrete":
        assert found == pytest.approx(kl_of_gates(terms[prior].q), rel=1e-5)
        return
    expected, error = reference_kl(posterior, prior)
    assert abs(found - expected) < 5 * error + 1e-4 * abs(expected)


# TFP's density of the horseshoe is an approximation, within 2e-3 nats a weight.
APPROXIMATION = {"Horseshoe": 6 * 2e-3}


def difference(posterior, prior):
    """Between the mean of 1,000 KLs of the layer, each by one draw, and the reference; its standard error."""
    kls = of_posterior(posterior)[1][prior]
    expected, error = reference_kl(posterior, prior)
    return kls.mean() - expected, np.hypot(kls.std() / np.sqrt(len(kls)), error)


@pytest.mark.parametrize(("posterior", "prior"), SAMPLED)
def test_the_kl_by_draws_is_right_on_average(posterior, prior):
    """Within 5 standard errors (a false alarm in 2 million): an error of 2 nats of the 6 weights would be seen."""
    off, error = difference(posterior, prior)
    assert abs(off) < 5 * error + APPROXIMATION.get(prior, 0.0)
    assert 0 < error < 0.2
    assert abs(off + 2.0) > 5 * error + APPROXIMATION.get(prior, 0.0)  # twin: a KL that is off by 2 nats


@pytest.mark.parametrize("prior", [p for p in PRIORS if ("Deterministic", p) not in REFUSED])
def test_points_have_no_kl_but_a_penalty(prior):
    """-log p(w), to rounding; of the horseshoe to TFP's approximation."""
    layer = layer_of("Deterministic", prior)
    w = variable(layer, "kernel_loc").numpy().astype(float).reshape(1, 6)
    each, _ = log_p(prior, layer.weight_terms[0].p, w, np.full(6, True))
    assert float(layer.kl_divergence()) == 0.0
    assert float(layer.penalty()) == pytest.approx(-each.sum(), rel=1e-4, abs=APPROXIMATION.get(prior, 0.0))


@pytest.mark.parametrize(("posterior", "prior"), sorted(REFUSED))
def test_pairs_that_make_no_sense_are_refused(posterior, prior):
    with pytest.raises(InvalidInput, match=REFUSED[posterior, prior]):
        layer_of(posterior, prior)


def test_a_term_without_a_prior_has_no_kl():
    """What a point may have."""
    layer = layer_of("Deterministic", "Normal")
    assert float(WeightTerm(layer.weight_posteriors[0], None).kl(None)) == 0.0
