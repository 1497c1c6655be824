"""A plain Keras model with posteriors on its weights, and what became of each of its layers."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from tfbnn import posteriors, priors
from tfbnn.core.checks import InvalidInput, invalid, one_of, positive_integer, positive_number
from tfbnn.core.positive import inverse_positive
from tfbnn.core.traversal import freeze, unfrozen
from tfbnn.layers import convolution, dense, einsum_dense, embedding
from tfbnn.layers.base import VariationalLayer
from tfbnn.layers.variational import LowRankAdapter, Variational, larger_than, rank_too_large

ESTIMATORS = {
    "flipout": "Flipout",
    "local_reparameterization": "LocalReparameterization",
    "reparameterization": "Reparameterization",
}
SMALLEST = 1e-8  # stands for a scale of 0 where a weight is 0
_WINDOWS = ("kernel_size", "strides", "padding", "data_format", "dilation_rate", "activation", "use_bias")
# Keras' layer -> our module, the name without its estimator, and the arguments that both have.
_SPECIAL: dict[type, tuple[Any, str, tuple[str, ...]]] = {
    keras.layers.Dense: (dense, "Dense", ("units", "activation", "use_bias")),
    keras.layers.EinsumDense: (einsum_dense, "EinsumDense", ("equation", "output_shape", "activation", "bias_axes")),
    keras.layers.Embedding: (embedding, "Embedding", ("input_dim", "output_dim", "mask_zero")),
    **{getattr(keras.layers, f"Conv{r}D"): (convolution, f"Conv{r}D", ("filters", "groups", *_WINDOWS))
       for r in (1, 2, 3)},
    **{getattr(keras.layers, f"DepthwiseConv{r}D"): (convolution, f"DepthwiseConv{r}D", ("depth_multiplier", *_WINDOWS))
       for r in (1, 2)},
    **{getattr(keras.layers, f"Conv{r}DTranspose"): (convolution, f"Conv{r}DTranspose",
       ("filters", "output_padding", *_WINDOWS)) for r in (1, 2, 3)},
}  # fmt: skip
_CHANGES_WEIGHTS = ("kernel_constraint", "bias_constraint", "embeddings_constraint", "lora_rank", "quantization_config")


@dataclasses.dataclass(frozen=True)
class _Became:
    """A line of the report."""

    layer: str
    kind: str
    weights: int
    became: str
    trainable: int
    what: str
    why: str


def bayesianize(
    model: keras.Model,
    layers: str | Sequence[str] | Callable[[keras.layers.Layer], bool] = "all",
    estimator: str = "flipout",
    posterior: Any = "MeanField",
    prior: Any = "Normal",
    moped: float | None = None,
    seed: int | None = None,
    adapter_rank: int | None = None,
) -> tuple[keras.Model, Any]:
    """The model with posteriors on its weights, whose means are the weights that it has.

    Dense, convolutional and embedding layers become tfbnn's, others with weights a `Variational` of their kind. What
    the network computes is not changed: with scales of 0 its outputs are the model's. Of a big model, `adapter_rank`
    leaves the weights frozen and trains a Bayesian change of low rank to each.

    Args:
        model: sequential or functional, built; nested models and layers that are called more than once too.
        layers: "all" with trainable weights, "last", names, or a function of a layer -> bool; the others are kept.
        estimator: "flipout", "local_reparameterization" or "reparameterization", of layers that have it; a layer that
            is called more than once, and `Variational`, have one draw of the weights a call.
        posterior, prior: a `tfbnn.posteriors` and a `tfbnn.priors` object or name, of every tensor.
        moped: scale of each weight's posterior as a fraction of |w|; None: as the posterior begins. MeanField alone.
        seed: of the layers' noise in plain Keras models, and of the initial weights of copies; the next layer has the
            next one.
        adapter_rank: r: each chosen layer that has a weight of two axes or more becomes a `LowRankAdapter` of that
            rank, also where it is frozen in the model, and all other weights of the model are frozen; `estimator` plays
            no part. None: every weight of the chosen layers has a posterior.

    Returns:
        The network, for `BayesianModel`, and a DataFrame: layer, its kind, number of weights, what it became, how many
        numbers of it are trainable now, whether it is Bayesian, kept, frozen or refused, and why. Refused are layers
        that cannot have a posterior; they are kept plain, with `adapter_rank` frozen.

    Raises:
        InvalidInput: for a model that is not built or cannot be described, names that no layer has, and where no layer
            is Bayesian.

    Example:
        >>> network, report = tfbnn.bayesianize(keras.applications.MobileNetV3Small(weights=None), layers="last")
        >>> model = tfbnn.BayesianModel(network, tfbnn.likelihoods.Categorical(1000), num_data=50_000)

    Reference: Krishnan, Subedar & Tickoo 2020 (MOPED); Hu et al. 2022 (LoRA).
    """
    import pandas as pd

    estimator = one_of("estimator", estimator, ESTIMATORS)
    conversion = _Conversion(model, layers, estimator, posterior, prior, moped, seed, adapter_rank)
    try:
        network = keras.models.clone_model(model, clone_function=conversion.converted)
    except InvalidInput as error:
        if (error.where or "").endswith("posterior_fn") and estimator != "reparameterization":
            expected, mend = f"MeanField, which estimator='{estimator}' needs", "Use estimator='reparameterization'."
            raise invalid("posterior", f"a factorised Gaussian, as {expected}", posterior, mend) from None
        raise
    except (ValueError, NotImplementedError) as error:
        mend = "Put tfbnn.layers.Variational around the layers of a model of your own class."
        raise invalid("model", "a sequential or functional model", type(model).__name__, f"{error} {mend}") from None
    conversion.give_weights()
    told = pd.DataFrame([dataclasses.asdict(line) for line in conversion.lines()])
    if not (told["what"] == "Bayesian").any():
        raise invalid(
            "layers", "a choice that leaves a layer with weights Bayesian", layers, told.to_string(index=False)
        )
    return network, told


class _Conversion:
    def __init__(self, model, layers, estimator, posterior, prior, moped, seed, adapter_rank):
        if not isinstance(model, keras.Model):
            raise invalid("model", "a Keras model", model)
        if not model.built:
            raise invalid("model", "a built model, whose weights are known", model.name, "Call it once on data.")
        calls = _calls(model)
        self.adapter_rank: Any = None if adapter_rank is None else positive_integer("adapter_rank", adapter_rank)
        self.chosen = _chosen(layers, [layer for layer, _ in calls if self._trainable(layer)])
        self.calls = {id(layer): sum(times for other, times in calls if other is layer) for layer, _ in calls}
        self.estimator, self.posterior, self.prior = estimator, posteriors.get(posterior), priors.get(prior)
        self.moped = None if moped is None else positive_number("moped", moped)
        if self.moped is not None and not isinstance(self.posterior, posteriors.MeanField):
            raise invalid("moped", "None, but for MeanField posteriors", moped)
        if self.moped is not None and self.adapter_rank is not None:
            raise invalid("moped", "None with `adapter_rank`, whose A B is no weight of the model", moped)
        self.seeds = itertools.repeat(None) if seed is None else itertools.count(seed)
        self.made: list[tuple[keras.layers.Layer, keras.layers.Layer, str, str]] = []
        self._became: dict[int, keras.layers.Layer] = {}
        _refuse_weights_of_two([layer for layer, _ in calls])

    def _trainable(self, layer: keras.layers.Layer) -> list[keras.Variable]:
        """The layer's weights that may have a posterior; adapters are for frozen ones too."""
        return layer.trainable_variables if self.adapter_rank is None else unfrozen(layer)

    def converted(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        """What the layer becomes, the same wherever it stands; its weights come later, when it is built."""
        if id(layer) not in self._became:
            self._became[id(layer)] = self._converted(layer)
        return self._became[id(layer)]

    def _converted(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, keras.Model):  # nested
            return keras.models.clone_model(layer, clone_function=self.converted)
        if not isinstance(layer, keras.layers.Layer):  # a function of keras.ops
            return _copied(layer)
        new, what, why = self._of(layer)
        self.made.append((layer, new, what, why))
        return new

    def lines(self) -> list[_Became]:
        """What became of each layer, once all are built."""
        return [
            _Became(layer.name, type(layer).__name__, _count(self._trainable(layer)), type(new).__name__,
                    _count(new.trainable_variables), what, why or _of_adapter(new))
            for layer, new, what, why in self.made
        ]  # fmt: skip

    def _of(self, layer: keras.layers.Layer) -> tuple[keras.layers.Layer, str, str]:
        if isinstance(layer, VariationalLayer):
            return _copied(layer), "kept", "it has a posterior already"
        if not self._trainable(layer):
            return self._left(layer), "kept", "no trainable weights"
        if not any(layer is one for one in self.chosen):
            return self._left(layer), "kept" if self.adapter_rank is None else "frozen", "not chosen"
        try:
            new, why = self._with_posterior(layer) if self.adapter_rank is None else self._with_adapter(layer)
        except InvalidInput as error:
            return self._left(layer), "refused", str(error)
        return (new, "Bayesian", why) if isinstance(new, VariationalLayer) else (new, "frozen", why)

    def _left(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        """A copy, frozen where adapters alone are trained: its statistics too."""
        copy = _copied(layer)
        if self.adapter_rank is not None:
            freeze(copy)
        return copy

    def _with_adapter(self, layer: keras.layers.Layer) -> tuple[keras.layers.Layer, str]:
        matrices = [variable for variable in unfrozen(layer) if len(variable.shape) > 1]
        if not matrices:
            return self._left(layer), "no weight of two axes or more"
        if not larger_than(self.adapter_rank, matrices):
            raise rank_too_large(self.adapter_rank, matrices, layer)
        q_and_p = self.posterior, self.prior
        return LowRankAdapter(_copied(layer), self.adapter_rank, *q_and_p, seed=next(self.seeds), name=layer.name), ""

    def _with_posterior(self, layer: keras.layers.Layer) -> tuple[keras.layers.Layer, str]:
        config = layer.get_config()
        regularizers = [key for key in config if key.endswith("_regularizer") and config[key] is not None]
        why = f"without its {', '.join(regularizers)}: the prior stands for it" if regularizers else ""
        special = type(layer) in _SPECIAL and not any(config.get(key) for key in _CHANGES_WEIGHTS)
        if special:
            return self._special(layer, config), why
        plain = type(layer).from_config({**config, **dict.fromkeys(regularizers)})
        return Variational(plain, self.posterior, self.prior, seed=next(self.seeds), name=layer.name), why

    def _special(self, layer: keras.layers.Layer, config: dict[str, Any]) -> keras.layers.Layer:
        module, name, arguments = _SPECIAL[type(layer)]
        one_draw = name == "Embedding" or self.calls[id(layer)] > 1
        cls = getattr(module, name + ("Reparameterization" if one_draw else ESTIMATORS[self.estimator]))
        tensors = ("embeddings",) if name == "Embedding" else ("kernel", "bias")
        factories = {f"{tensor}_{kind}_fn": part for tensor in tensors
                     for kind, part in (("posterior", self.posterior), ("prior", self.prior))}  # fmt: skip
        given = {key: config[key] for key in arguments}
        return cls(**given, **factories, seed=next(self.seeds), name=layer.name, dtype=layer.dtype_policy)

    def give_weights(self) -> None:
        """The means are the weights of the model."""
        for old, new, _, _ in self.made:
            if self.adapter_rank is not None and not isinstance(new, VariationalLayer):
                freeze(new)  # the parts, too, that it made when it was built
            if isinstance(new, Variational) and not isinstance(old, Variational):
                new.layer.set_weights(old.get_weights())
            elif isinstance(new, VariationalLayer) and not isinstance(old, VariationalLayer):
                for q, values in zip(new.weight_posteriors, old.get_weights(), strict=True):
                    q.loc.assign(values)  # type: ignore[attr-defined]
            else:
                new.set_weights(old.get_weights())
            if self.moped is not None and isinstance(new, VariationalLayer) and not isinstance(old, VariationalLayer):
                _scale_by_size(new, self.moped)


def _count(variables: Sequence[keras.Variable]) -> int:
    return sum(int(np.prod(variable.shape)) for variable in variables)


def _of_adapter(layer: keras.layers.Layer) -> str:
    return f"rank {layer.rank} on {', '.join(layer.changed)}" if isinstance(layer, LowRankAdapter) else ""


def _scale_by_size(layer: VariationalLayer, fraction: float) -> None:
    """scale = fraction |loc|."""
    for q in layer.weight_posteriors:
        size = np.abs(np.asarray(q.loc, np.float64))  # type: ignore[attr-defined]
        q.rho.assign(inverse_positive(np.maximum(fraction * size, SMALLEST)))  # type: ignore[attr-defined]


def _copied(layer: keras.layers.Layer) -> keras.layers.Layer:
    try:
        return type(layer).from_config(layer.get_config())
    except (ValueError, TypeError, NotImplementedError) as error:  # a lambda, a layer of one's own without a config
        told = str(error).split(". ")[0]
        mend = "A function with a name, registered with Keras, can be; so can a layer with get_config."
        raise invalid(f"layer {layer.name}", "a layer that its config describes", type(layer).__name__,
                      f"{told}. {mend}") from None  # fmt: skip


def _refuse_weights_of_two(layers: Sequence[keras.layers.Layer]) -> None:
    """A layer inside a wrapper that stands elsewhere too would become two."""
    owners: dict[int, keras.layers.Layer] = {}
    for layer in layers:
        for variable in layer.variables:
            other = owners.setdefault(id(variable), layer)
            if other is not layer:
                expected = "a model in which no layer holds the weights of another"
                mend = "Use one wrapper of it wherever it stands."
                raise invalid("model", expected, f"{variable.path} of {other.name} and of {layer.name}", mend)


def _calls(model: keras.Model, times: int = 1) -> list[tuple[keras.layers.Layer, int]]:
    """Its layers, those of nested models in their place, and how often a call of the model calls each."""
    nodes = {} if isinstance(model, keras.Sequential) else _nodes(model)
    found: list[tuple[keras.layers.Layer, int]] = []
    for layer in model.layers:
        own = times * nodes.get(layer.name, 1)
        found += _calls(layer, own) if isinstance(layer, keras.Model) else [(layer, own)]
    return found


def _nodes(model: keras.Model) -> dict[str, int]:
    """Name of a layer -> its calls, of a functional model; none of another."""
    try:
        described = model.get_config().get("layers", [])
    except NotImplementedError:
        return {}
    return {layer["name"]: len(layer["inbound_nodes"]) or 1 for layer in described}


def _chosen(layers: Any, known: list[keras.layers.Layer]) -> list[keras.layers.Layer]:
    """Of those with weights."""
    if callable(layers):
        return [layer for layer in known if layers(layer)]
    if isinstance(layers, str):
        one_of("layers", layers, ("all", "last"))
        return known if layers == "all" else known[-1:]
    names = [layer.name for layer in known]
    for name in layers:
        one_of("layers", name, names)
    return [layer for layer in known if layer.name in set(layers)]
