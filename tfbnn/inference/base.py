"""What the methods share: a network, a likelihood, and how a model of them is made and trained."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from tfbnn import likelihoods
from tfbnn.core.checks import invalid
from tfbnn.core.draws import Draws
from tfbnn.core.noise import check_seed
from tfbnn.core.traversal import sublayers
from tfbnn.layers import BatchEnsemble, ConcreteDropout, MCDropout, RankOne
from tfbnn.layers.base import VariationalLayer
from tfbnn.layers.convert import as_points
from tfbnn.prediction.stored_draws import StoredDraws, drawn_variables
from tfbnn.training import BayesianModel, train


class Inference(abc.ABC):
    """A way to a posterior: `fit` trains or samples, and returns `Draws`.

    Args:
        network: Keras model, [B, ...] -> [B, P]. Layers of tfbnn tell the prior of their weights; a method of points
            takes their means for the weights, in a copy. A network without posteriors is used itself.
        likelihood: a `tfbnn.likelihoods` object, adapted to the training targets, or a name.
        optimizer: of Keras.
        seed: of initial weights, noise, order of rows and draws; None: another at every construction.
        **kwargs: of `BayesianModel` (beta, train_samples, num_samples, num_data). beta weighs a KL: methods of points
            and chains have none, and their posterior is that of beta = 1 whatever it is.

    Attributes:
        history: name -> value of each epoch of the last `fit`.
        model: the `BayesianModel` that is trained, where there is one.
    """

    model: BayesianModel
    takes_optimizer = True
    tells_progress = False  # whether `fit` takes `progress`, because most of its time comes after training
    keeps_checkpoints = True  # whether `fit` takes `checkpoint`, `checkpoint_every` and `resume`

    def __init__(
        self, network: keras.Model, likelihood: Any, optimizer: Any = "adam", seed: int | None = None, **kwargs: Any
    ):
        self.network = network
        self.likelihood = likelihoods.get(likelihood)
        self.optimizer = optimizer
        self.seed = int(np.random.default_rng().integers(2**31)) if seed is None else check_seed("seed", seed)
        self.model_arguments = kwargs
        self.history: dict[str, list[float]] = {}

    @abc.abstractmethod
    def fit(self, x: Any, y: Any, epochs: int = 1, batch_size: int = 32, **training: Any) -> Draws:
        """Finds the posterior given rows x, y; `training` holds further arguments of `tfbnn.train`."""

    # --- for methods -------------------------------------------------------------------------------------------------

    def compiled(self, network: keras.Model, likelihood: Any = None, seed: int | None = None) -> BayesianModel:
        """A model of `network` with an optimizer of its own."""
        likelihood = self.likelihood if likelihood is None else likelihood
        seed = self.seed if seed is None else seed
        model = BayesianModel(network, likelihood, seed=seed, **self.model_arguments)
        model.compile(own_optimizer(self.optimizer))
        return model

    def points(self, takes_dropout: bool = True) -> keras.Model:
        """The network with points for weights: a copy of one that has posteriors, else itself.

        Raises:
            InvalidInput: where it has layers of dropout and the method cannot do with them, or layers with members.
        """
        self.refuse_members()
        if not takes_dropout and has_dropout(self.network):
            mend = "Use MonteCarloDropout or SWAG, or leave these layers out."
            expected = f"no MCDropout or ConcreteDropout: {type(self).__name__} needs one function of the weights"
            raise invalid("network", expected, self.network.name, mend)
        return as_points(self.network) if has_posteriors(self.network) else self.network

    def refuse_members(self) -> None:
        """Raises where the network has layers whose draws are members in turn."""
        if any(isinstance(layer, BatchEnsemble | RankOne) for layer in sublayers(self.network)):
            mend = "Use BayesianModel or VariationalInference, whose draws are the members in turn."
            expected = f"no BatchEnsemble or RankOne: {type(self).__name__} has draws of its own"
            raise invalid("network", expected, self.network.name, mend)

    def train(self, model: BayesianModel, x: Any, y: Any, **arguments: Any) -> None:
        """`tfbnn.train`, whose history is kept."""
        told = train(model, x, y, **arguments).history
        self.history = {name: [float(value) for value in values] for name, values in told.items()}


def has_posteriors(network: keras.Model) -> bool:
    """Whether some layer may hold more than points; a layer that is not built yet tells nothing, and may."""
    layers = [layer for layer in sublayers(network) if isinstance(layer, VariationalLayer)]
    return any(not layer.built or not all(term.q.is_point for term in layer.weight_terms) for layer in layers)


def has_dropout(network: keras.Model) -> bool:
    """Whether some layer drops units in prediction too."""
    return any(isinstance(layer, MCDropout | ConcreteDropout) for layer in sublayers(network))


def own_optimizer(optimizer: Any) -> keras.optimizers.Optimizer:
    """A new optimizer of the same settings."""
    found = keras.optimizers.get(optimizer)
    return type(found).from_config(found.get_config())


def own_likelihood(likelihood: likelihoods.Likelihood) -> likelihoods.Likelihood:
    """A copy with the same values, whose learned scale is its own."""
    copy = likelihoods.deserialize(likelihoods.serialize(likelihood))
    copy.set_weights(likelihood.get_weights())
    return copy


def setting_of(model: BayesianModel) -> list[np.ndarray]:
    """The present weights, as `StoredDraws` takes them."""
    return [variable.numpy() for variable in drawn_variables(model.network, model.likelihood)]


def stored(
    model: BayesianModel, settings: Sequence[Sequence[Any]], endless: bool = False, metadata: dict | None = None
) -> StoredDraws:
    """Draws of `settings` of the weights of `model`."""
    return StoredDraws(model.network, model.likelihood, settings, endless, model.seed, metadata)


def callbacks_of_each(callbacks: Any) -> Callable[[int], Sequence[keras.callbacks.Callback]] | None:
    """Callbacks as `train_many` takes them, from a function of a member's number, or from the first member's list."""
    if callbacks is None or callable(callbacks):
        return callbacks
    return lambda m: [] if m else callbacks


def mean_history(histories: Sequence[keras.callbacks.History]) -> dict[str, list[float]]:
    """The mean of each epoch over the members that still trained in it."""
    told = [history.history for history in histories]
    longest = max(len(next(iter(one.values()))) for one in told)
    return {
        name: [float(np.mean([one[name][epoch] for one in told if epoch < len(one[name])])) for epoch in range(longest)]
        for name in told[0]
    }


def spread_over_time(count: int) -> np.ndarray:
    """0 ... count - 1 in the order of their reversed bits (van der Corput): each beginning is spread over all.

    Draws of a chain are kept in it, so that the first few of them are a good thinned sample.

    Reference: van der Corput 1935; Niederreiter 1992, "Random Number Generation", section 3.1.
    """
    bits = max(1, (count - 1).bit_length())
    reversed_bits = [int(f"{i:0{bits}b}"[::-1], 2) for i in range(2**bits)]
    return np.array([i for i in reversed_bits if i < count])


def refuse_datasets(x: Any, method: str) -> None:
    """Raises where rows come as a dataset, for methods that need all of them at once."""
    if not hasattr(x, "shape") and not isinstance(x, dict | list | tuple):
        raise invalid("x", f"arrays, because {method} needs all rows at once", type(x).__name__)
