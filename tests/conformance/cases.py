"""The table of cases: one line a public class; every property of this folder holds for each of them.

A case of any family is tried inside a `BayesianModel` that uses it (`model_of`).
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

import tfbnn
from tfbnn import layers, likelihoods, objectives, posteriors, priors
from tfbnn.layers.convolution import Convolution

FAMILIES = {
    "layer": layers,
    "posterior": posteriors,
    "prior": priors,
    "likelihood": likelihoods,
    "schedule": objectives,
}


@keras.saving.register_keras_serializable("conformance")
def student_posterior(dtype, shape, name, trainable, add_variable_fn):
    """A posterior that is no Gaussian: sampled by seed, its KL by Monte Carlo."""
    loc = add_variable_fn(name=name + "_loc", shape=shape, dtype=dtype, trainable=trainable)
    rho = add_variable_fn(name=name + "_rho", shape=shape, dtype=dtype, trainable=trainable)
    return tfp.distributions.Independent(
        tfp.distributions.StudentT(5.0, loc, tfp.util.DeferredTensor(rho, tf.nn.softplus)), len(shape)
    )


@keras.saving.register_keras_serializable("conformance")
def empirical_prior(dtype, shape, name, trainable, add_variable_fn):
    """A prior whose one scale is learned."""
    rho = add_variable_fn(name=name + "_rho", shape=(), dtype=dtype, trainable=trainable)
    scale = tfp.util.DeferredTensor(rho, tf.nn.softplus)
    return tfp.distributions.Independent(tfp.distributions.Normal(tf.zeros(shape), scale), len(shape))


@dataclasses.dataclass(frozen=True)
class Case:
    family: str
    cls: type
    make: Callable[[], Any]
    note: str = ""
    slow: bool = False  # what it shows, faster ones show too

    def __str__(self):
        return "-".join(part for part in (self.family, self.cls.__name__, self.note) if part)


GLOROT = {"kernel_initializer": keras.initializers.GlorotUniform(seed=1)}


def concrete_dropout(layer: keras.layers.Layer) -> layers.ConcreteDropout:
    """So warm that no two masks are equal."""
    return layers.ConcreteDropout(layer, prior_scale=0.7, initial_rate=0.4, temperature=2.0, seed=1)


def dense() -> keras.layers.Dense:
    """A plain layer, the same at each call."""
    return keras.layers.Dense(4, "tanh", **GLOROT)


def adapter() -> layers.LowRankAdapter:
    """So wide that draws differ at once."""
    return layers.LowRankAdapter(dense(), 2, posteriors.MeanField(initial_rho=-1.0), seed=1)


ESTIMATORS = ("Reparameterization", "LocalReparameterization", "Flipout")
FAST = ("Conv1DReparameterization", "Conv2DFlipout")


def convolutions() -> list[Case]:
    """A case of each op, rank and estimator; two of them fast."""
    made = []
    for op in ("Conv{}D", "DepthwiseConv{}D", "Conv{}DTranspose"):
        for rank in (1, 2) if "Depthwise" in op else (1, 2, 3):
            for estimator in ESTIMATORS:
                cls = getattr(layers, op.format(rank) + estimator)
                arguments = {"kernel_size": (2, *[1] * (rank - 1)), "activation": "tanh", "seed": 1}
                arguments |= {} if "Depthwise" in op else {"filters": 2}
                make = functools.partial(cls, **arguments)
                made.append(Case("layer", cls, make, slow=cls.__name__ not in FAST))
    return made


CASES = [
    *convolutions(),
    *[
        Case("layer", cls, functools.partial(cls, "ab,bc->ac", 4, "tanh", "c", seed=1), slow=slow)
        for cls, slow in (
            (layers.EinsumDenseFlipout, False),
            (layers.EinsumDenseLocalReparameterization, True),
            (layers.EinsumDenseReparameterization, True),
        )
    ],
    Case("layer", layers.EmbeddingReparameterization, lambda: layers.EmbeddingReparameterization(3, 2, seed=1)),
    Case("layer", layers.DenseFlipout, lambda: layers.DenseFlipout(4, "tanh", seed=1)),
    Case("layer", layers.DenseLocalReparameterization, lambda: layers.DenseLocalReparameterization(4, "tanh", seed=1)),
    Case("layer", layers.DenseReparameterization, lambda: layers.DenseReparameterization(4, "tanh", seed=1)),
    Case("layer", layers.DenseVariational, lambda: layers.DenseVariational(4, activation="tanh", seed=1)),
    Case("layer", layers.Variational, lambda: layers.Variational(keras.layers.Dense(4, "tanh", **GLOROT), seed=1)),
    Case("layer", layers.RandomFeatures, lambda: layers.RandomFeatures(5, 1.5, seed=1)),
    Case("layer", layers.VariationalLastLayer, lambda: layers.VariationalLastLayer(4, seed=1)),
    Case("layer", layers.LowRankAdapter, adapter),
    Case("layer", layers.BatchEnsemble, lambda: layers.BatchEnsemble(dense(), 2, seed=1)),
    Case("layer", layers.RankOne, lambda: layers.RankOne(dense(), 2, seed=1)),
    Case("layer", layers.MCDropout, lambda: layers.MCDropout(0.4, seed=1)),
    Case("layer", layers.ConcreteDropout, lambda: concrete_dropout(keras.layers.Dense(4, "tanh", **GLOROT))),
    Case("layer", layers.DenseFlipout, lambda: layers.DenseFlipout(4, use_bias=False, seed=1), "no bias"),
    Case("posterior", posteriors.Deterministic, lambda: posteriors.Deterministic("he_normal")),
    Case("posterior", posteriors.FullCovariance, lambda: posteriors.FullCovariance(initial_rho=-2.0)),
    Case("posterior", posteriors.LowRank, lambda: posteriors.LowRank(2, initial_rho=-2.0)),
    Case("posterior", posteriors.MatrixNormal, lambda: posteriors.MatrixNormal(initial_rho=-2.0)),
    Case("posterior", posteriors.Radial, lambda: posteriors.Radial(initial_rho=-1.0)),
    Case("posterior", posteriors.MeanField, lambda: posteriors.MeanField(keras.initializers.RandomNormal(0.1), -3.0)),
    Case("posterior", posteriors.Pruned, lambda: posteriors.Pruned(posteriors.MeanField(initial_rho=-3.0))),
    Case("posterior", posteriors.UnitCovariance, lambda: posteriors.UnitCovariance(initial_rho=-2.0)),
    Case("posterior", posteriors.HardConcrete, lambda: posteriors.HardConcrete("input", 0.95, initial_rho=-2.0)),
    Case("posterior", posteriors.HardConcrete, posteriors.HardConcrete, "a gate a weight", slow=True),
    Case("posterior", posteriors.NormalizingFlow, lambda: posteriors.NormalizingFlow(2, 3, initial_rho=-2.0)),
    Case("posterior", posteriors.TFPFunction, lambda: posteriors.TFPFunction(student_posterior)),
    Case("prior", priors.AnchoredNormal, lambda: priors.AnchoredNormal(0.1, 0.5)),
    Case("prior", priors.EmpiricalBayesNormal, lambda: priors.EmpiricalBayesNormal(0.1, 0.5)),
    Case("prior", priors.HierarchicalNormal, lambda: priors.HierarchicalNormal(0.4, 0.5)),
    Case("prior", priors.HierarchicalNormal, lambda: priors.HierarchicalNormal(0.4, 0.5, "input"), "by input"),
    Case("prior", priors.Horseshoe, lambda: priors.Horseshoe(0.2)),
    Case("prior", priors.Laplace, lambda: priors.Laplace(0.1, 0.5)),
    Case("prior", priors.StudentT, lambda: priors.StudentT(4.0, 0.1, 0.5), slow=True),
    Case("prior", priors.Normal, lambda: priors.Normal(0.1, 0.5)),
    Case("prior", priors.Normal, lambda: priors.Normal([0.1, 0.2, -0.1, 0.3], [0.5, 0.1, 1.0, 2.0]), "by position"),
    Case("prior", priors.ScaleMixture, lambda: priors.ScaleMixture(0.3, 0.8, 0.01)),
    Case("prior", priors.SpikeAndSlab, lambda: priors.SpikeAndSlab(0.3, 0.8)),
    Case("prior", priors.TFPFunction, lambda: priors.TFPFunction(empirical_prior)),
    Case("likelihood", likelihoods.Bernoulli, likelihoods.Bernoulli),
    Case("likelihood", likelihoods.Categorical, lambda: likelihoods.Categorical(3)),
    Case("likelihood", likelihoods.HeteroscedasticNormal, lambda: likelihoods.HeteroscedasticNormal(2)),
    Case("likelihood", likelihoods.LogNormal, lambda: adapted(likelihoods.LogNormal())),
    Case("likelihood", likelihoods.NegativeBinomial, lambda: adapted(likelihoods.NegativeBinomial(2))),
    Case("likelihood", likelihoods.Normal, lambda: adapted(likelihoods.Normal())),
    Case("likelihood", likelihoods.Normal, lambda: likelihoods.Normal(scale=0.3, num_targets=2), "known scale"),
    Case("likelihood", likelihoods.Poisson, lambda: adapted(likelihoods.Poisson())),
    Case("likelihood", likelihoods.StudentT, lambda: adapted(likelihoods.StudentT(2))),
    Case("schedule", objectives.Blundell, lambda: objectives.Blundell(3)),
    Case("schedule", objectives.Constant, lambda: objectives.Constant(0.5)),
    Case("schedule", objectives.Cyclical, lambda: objectives.Cyclical(10, 2, 0.7, 0.1, 0.9)),
    Case("schedule", objectives.Linear, lambda: objectives.Linear(10, 0.1, 0.9)),
    Case("schedule", objectives.Sigmoid, lambda: objectives.Sigmoid(10, 0.4, 8.0, 0.1, 0.9)),
]


def public_classes(package: Any) -> list[type]:
    """The classes in `__all__` that a user makes objects of: abstract are those that say so or have public children."""
    classes = [getattr(package, name) for name in package.__all__ if inspect.isclass(getattr(package, name))]
    parents = {parent for cls in classes for parent in cls.__mro__[1:]}
    return [cls for cls in classes if cls not in parents and not inspect.isabstract(cls)]


NUM_ROWS = 16
X = np.random.default_rng(0).standard_normal((NUM_ROWS, 3)).astype("f")


def target_of(likelihood: Any) -> np.ndarray:
    """Targets that the likelihood takes, [B, T]."""
    if likelihood.is_classifier:
        return (np.arange(NUM_ROWS) % likelihood.num_classes)[:, None]
    y = 3 + X[:, : likelihood.num_targets]
    return np.floor(y) if likelihood.is_discrete else y


def adapted(likelihood: Any) -> Any:
    """The likelihood, fitted to its own targets."""
    return likelihood.adapt(target_of(likelihood))


def model_of(case: Case, **arguments: Any) -> Any:
    """A BayesianModel of two layers that uses the case's object, the same at each call but for its variables."""
    made = case.make()
    likelihood = made if case.family == "likelihood" else likelihoods.Normal()
    hidden = made if case.family == "layer" else layers.DenseReparameterization(4, "tanh", **_factories(case, made))
    if isinstance(hidden, Convolution | layers.EmbeddingReparameterization):
        hidden = in_positions(hidden)
    network = keras.Sequential([keras.Input((3,)), hidden, layers.DenseFlipout(likelihood.num_outputs, seed=2)])
    beta = made if case.family == "schedule" else 1.0
    return tfbnn.BayesianModel(network, likelihood, num_data=NUM_ROWS, beta=beta, seed=3, **arguments)


GO_TOGETHER = {posteriors.HardConcrete: {"prior": "SpikeAndSlab"}, priors.SpikeAndSlab: {"posterior": "HardConcrete"}}
BOUNDS = [-0.5, 0.5]  # between whole numbers that an embedding takes


def inputs_of(layer: Any) -> np.ndarray:
    """The shared rows as a layer takes them alone."""
    if isinstance(layer, layers.EmbeddingReparameterization):
        return np.digitize(X, BOUNDS)
    return X.reshape(NUM_ROWS, 3, *[1] * layer.rank) if isinstance(layer, Convolution) else X


def in_positions(layer: Any) -> keras.Model:
    """Of the three inputs as three positions: of whole numbers, or on the first of as many axes as the layer has."""
    if isinstance(layer, layers.EmbeddingReparameterization):
        return keras.Sequential([keras.layers.Discretization(BOUNDS), layer, keras.layers.Flatten()])
    positions = keras.layers.Reshape((3, *[1] * (layer.rank - 1), 1))
    return keras.Sequential([positions, layer, keras.layers.Flatten()])


def _factories(case: Case, made: Any) -> dict[str, Any]:
    if case.family not in ("posterior", "prior"):
        return {}
    kinds = {case.family: made}
    if case.cls in GO_TOGETHER:
        kinds |= GO_TOGETHER[case.cls]
    return {f"{tensor}_{kind}_fn": of_kind for kind, of_kind in kinds.items() for tensor in ("kernel", "bias")}


def terms_of(model: Any, seed: int = 5) -> Any:
    """ElboTerms of the model on the shared rows, by fixed noise."""
    return model.elbo_terms(X, target_of(model.likelihood), seed=seed)
