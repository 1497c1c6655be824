"""Any Keras layer with drawn weights."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfbnn import estimators, posteriors, priors
from tfbnn.core.checks import InvalidInput, invalid, positive_integer, positive_number
from tfbnn.core.noise import Noise
from tfbnn.core.serialization import register, serialize_function
from tfbnn.core.traversal import freeze, sublayers, unfrozen
from tfbnn.layers.base import VariationalLayer, check_divergence, divergence_config, same_for_all_draws

Choice = Callable[[str, keras.Variable], bool]


@register
class Variational(VariationalLayer):
    """y = layer(x; w), w ~ q(w): any layer of Keras, or your own, with one draw of its weights a call.

    The layer's weights are the means of q, where q has means: they keep their values, and with scales of 0 the outputs
    are the layer's. All arguments of the call pass through: masks, initial states, `training`, several inputs. What the
    layer keeps beside its weights (the statistics of a batch normalisation) is as without it.

    When: recurrent layers, attention, normalisations, layers of your own.
    Cost: that of its posterior; one draw of the weights a call, and noisy gradients.

    Args:
        layer: a Keras layer, built or not; a stateful RNN is refused, because its state would belong to no draw.
        posterior_fn: q of each tensor: a `tfbnn.posteriors` object or name, or a TFP factory function.
        prior_fn: p of each tensor, likewise; None only with a Deterministic posterior.
        divergence_fn: as `kernel_divergence_fn` in `DenseReparameterization`.
        weights: which of the layer's trainable weights have a posterior: names ("kernel", or the end of a path,
            "forward_lstm/lstm_cell/kernel"), or a function (path, variable) -> bool, registered with Keras if the layer
            is saved; None: all. The others stay plain weights.
        kl_weight, seed: as in `DenseReparameterization`.

    Inputs and outputs: those of the layer.

    Raises:
        InvalidInput: for what is no layer, for one without weights, and for names that none of them has.

    Example:
        >>> tfbnn.layers.Variational(keras.layers.LSTM(32, return_sequences=True))

    Reference: Fortunato, Blundell & Vinyals 2017, "Bayesian Recurrent Neural Networks"; Gal & Ghahramani 2016 (one draw
    of the weights for all steps of a sequence).
    """

    estimator = staticmethod(estimators.reparameterization)
    factory_argument = "{kind}_fn"
    _expected = "one with trainable weights"
    _means: dict[str, keras.Variable]
    _replaced: list[keras.Variable]

    def __init__(
        self,
        layer: keras.layers.Layer,
        posterior_fn: Any = "MeanField",
        prior_fn: Any = "Normal",
        divergence_fn: Any = None,
        weights: Sequence[str] | Choice | None = None,
        kl_weight: float | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        self.__dict__["call"] = _with_signature_of(_checked(layer), self._run)  # Keras reads it in what follows
        super().__init__(kl_weight=kl_weight, seed=seed, **{"dtype": layer.dtype_policy, **kwargs, "autocast": False})
        self.layer = layer
        self.posterior_fn = posteriors.get(posterior_fn)
        self.prior_fn = priors.get(prior_fn)
        self.divergence_fn = check_divergence("divergence_fn", divergence_fn)
        self.chosen = _choice(weights)
        # Past Keras' tracking: they are the layer's, and saved with it.
        self.__dict__.update(_means={}, _replaced=[])
        self.supports_masking = layer.supports_masking

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As the layer is called."""
        if not self.layer.built:
            self.layer(*_symbolic(args), **_symbolic(kwargs))
        return super().__call__(*args, **kwargs)

    def build(self, input_shape=None):
        """Adds what q has beside its means."""
        if not self.layer.built:
            self.layer.build(input_shape)
        own = self._chosen_weights()
        for name, variable in _named(own).items():
            self._add_terms(name, variable)
        self._replaced.extend(own)
        self.built = True

    def _chosen_weights(self) -> list[keras.Variable]:
        weights = _by_path(self.layer, self._weights())
        own = [variable for path, variable in weights.items() if self._is_chosen(path, variable)]
        if not own:
            raise invalid(
                f"layer of {self.name}",
                self._expected + (" that are chosen" if self.chosen is not None else ""),
                f"{self.layer.name}, whose weights are: {', '.join(weights) or 'none'}",
                "Leave it a plain layer." if self.chosen is None else "Choose others by `weights`.",
            )
        return own

    def _weights(self) -> list[keras.Variable]:
        """Those that may be drawn."""
        return self.layer.trainable_variables

    def _add_terms(self, name: str, variable: keras.Variable) -> None:
        self._means[f"{name}_loc"] = variable
        self._add(name, tuple(variable.shape), _AsTheyAre(variable))
        if self._means.pop(f"{name}_loc", None) is not None:  # q has no such means: nothing reads the weight
            variable.trainable = False

    def _add(self, name: str, shape: tuple[int, ...], init: Any) -> None:
        self.add_term(name, shape, self.posterior_fn, self.prior_fn, self.divergence_fn, init)

    def add_weight(self, *args: Any, name: str | None = None, **kwargs: Any) -> keras.Variable:
        """As in Keras; the means of a posterior are the layer's own weights."""
        if name not in self._means:
            return super().add_weight(*args, name=name, **kwargs)
        variable = self._means.pop(name)
        variable.assign(kwargs["initializer"](variable.shape, variable.dtype))
        return variable

    def _is_chosen(self, path: str, variable: keras.Variable) -> bool:
        if self.chosen is None:
            return True
        if callable(self.chosen):
            return bool(self.chosen(path, variable))
        return any(path == name or path.endswith(f"/{name}") for name in self.chosen)

    def _run(self, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        noise = self._noise()
        self._settle_kl(noise, bool(training))
        self._tell_log_ratio(noise)
        args, kwargs = _same_for_all_draws(noise, (args, kwargs))
        if "training" in inspect.signature(self.layer.call).parameters:
            kwargs["training"] = training
        drawn = zip(self._replaced, self._drawn(noise), strict=True)
        others = [variable for variable in self.layer.variables if all(variable is not one for one in self._replaced)]
        kept = [(variable, tf.convert_to_tensor(variable.value)) for variable in others]  # as an outer scope has them
        with keras.StatelessScope(state_mapping=[*drawn, *kept]) as scope:
            outputs = self.layer(*args, **kwargs)
        for variable, before in kept:
            after = scope.get_current_value(variable)
            if after is not before:
                variable.assign(after)
        return outputs

    def _drawn(self, noise: Noise) -> list[tf.Tensor]:
        """One draw of each weight that is replaced."""
        return [q.sample(noise) for q in self.weight_posteriors]

    def compute_output_spec(self, *args, **kwargs):
        """That of the layer."""
        return self.layer.compute_output_spec(*args, **kwargs)

    def compute_output_shape(self, *args, **kwargs):
        """That of the layer."""
        return self.layer.compute_output_shape(*args, **kwargs)

    def compute_mask(self, *args, **kwargs):
        """That of the layer."""
        return self.layer.compute_mask(*args, **kwargs)

    def get_build_config(self):
        """That of the layer; None where it is not built."""
        return {"layer": self.layer.get_build_config()} if self.built else None

    def build_from_config(self, config):
        """Builds the layer, then what q has beside its weights."""
        if not self.layer.built and config["layer"]:
            self.layer.build_from_config(config["layer"])
        self.build()

    def get_config(self):
        """The constructor's arguments."""
        chosen = serialize_function("weights", self.chosen) if callable(self.chosen) else self.chosen
        return {
            **super().get_config(),
            "layer": keras.saving.serialize_keras_object(self.layer),
            "posterior_fn": posteriors.serialize(self.posterior_fn),
            "prior_fn": priors.serialize(self.prior_fn),
            "divergence_fn": divergence_config("divergence_fn", self.divergence_fn),
            "weights": chosen,
        }

    @classmethod
    def from_config(cls, config):
        """The layer that `get_config` described."""
        return cls(**{**config, "layer": keras.saving.deserialize_keras_object(config["layer"])})


@register
class LowRankAdapter(Variational):
    """W = W_0 + (alpha / rank) A B, A and B drawn: any layer, frozen, with a posterior on a change of low rank.

    It can represent changes of a weight in `rank` directions, at rank (n_in + n_out) means and scales in place of
    n_in n_out: a big model that was trained elsewhere becomes Bayesian for the cost of its adapters.

    W_0 is neither trained nor drawn, nor are the layer's other weights (biases, normalisations). A is [n_in, rank], B
    [rank, n_out]; of a weight of more axes the first ones are n_in and the others n_out, where A and B are smallest. B
    begins at 0 and A at random, so that with scales of 0 the outputs are the layer's. Each call makes W_0 + A B, in
    memory of the size of W_0 for each draw that is made at once.

    When: a big model that is frozen, and few rows.
    Cost: 2 r (n_in + n_out) numbers a kernel instead of 2 n_in n_out; one product of A and B a call.

    Args:
        layer: as in `Variational`, one that is frozen already too: Dense, EinsumDense, Embedding, Conv, attention,
            LSTM, your own. It is frozen here.
        rank: of A B, 1 or more.
        posterior_fn, prior_fn: of each A and each B, as in `Variational`. A posterior with an initializer of its own
            begins there.
        divergence_fn: as in `Variational`.
        weights: which weights are changed, of those of two axes or more, as in `Variational`; None: all that are
            larger than `rank` in n_in and n_out (of a GRU, not its bias of 2 x 3 units).
        alpha: A B is scaled by alpha / rank; None: by 1.
        kl_weight, seed: as in `Variational`.

    Inputs and outputs: those of the layer.

    Raises:
        InvalidInput: as `Variational`, and where a chosen weight, or all, are no larger than `rank` in n_in or n_out.

    Example:
        >>> tfbnn.layers.LowRankAdapter(keras.layers.MultiHeadAttention(8, 64), rank=4)

    Reference: Hu et al. 2022, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1; Yang et al. 2024,
    "Bayesian Low-rank Adaptation for Large Language Models" (there by a Laplace approximation).
    """

    _expected = "one with weights of two axes or more"

    def __init__(
        self,
        layer: keras.layers.Layer,
        rank: int,
        posterior_fn: Any = "MeanField",
        prior_fn: Any = "Normal",
        divergence_fn: Any = None,
        weights: Sequence[str] | Choice | None = None,
        alpha: float | None = None,
        kl_weight: float | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(layer, posterior_fn, prior_fn, divergence_fn, weights, kl_weight, seed, **kwargs)
        self.rank = positive_integer("rank", rank)
        self.alpha = None if alpha is None else positive_number("alpha", alpha)
        freeze(self.layer)

    def build(self, input_shape=None):
        """Adds q of A and of B of each weight that is changed."""
        self.__dict__["_generator"] = keras.random.SeedGenerator(self.seed)  # of initial values alone: not to be saved
        super().build(input_shape)
        freeze(self.layer)

    @Variational.trainable.setter
    def trainable(self, value):
        """Whether A and B are trained; the layer stays frozen."""
        Variational.trainable.fset(self, value)
        freeze(self.layer)

    def _weights(self):
        return [variable for variable in unfrozen(self.layer) if len(variable.shape) > 1]

    def _chosen_weights(self):
        own = super()._chosen_weights()
        larger = larger_than(self.rank, own)
        if not larger or (self.chosen is not None and len(larger) < len(own)):
            raise rank_too_large(self.rank, own, self.layer)
        return larger

    @property
    def changed(self) -> list[str]:
        """Names of the weights that A B changes."""
        return list(_named(self._replaced))

    def _add_terms(self, name, variable):
        n_in, n_out = in_and_out(variable.shape)
        self._add(f"{name}_A", (n_in, self.rank), keras.initializers.HeUniform(seed=self._generator))
        self._add(f"{name}_B", (self.rank, n_out), "zeros")

    def _drawn(self, noise):
        factors = super()._drawn(noise)
        scale = 1.0 if self.alpha is None else self.alpha / self.rank
        return [
            tf.cast(variable.value, a.dtype) + scale * tf.reshape(a @ b, variable.shape)
            for variable, a, b in zip(self._replaced, factors[::2], factors[1::2], strict=True)
        ]

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "rank": self.rank, "alpha": self.alpha}


class _AsTheyAre(keras.initializers.Initializer):
    """The values that the layer's own weight has."""

    def __init__(self, variable: keras.Variable):
        self._variable = variable

    def __call__(self, shape, dtype=None):
        return tf.convert_to_tensor(self._variable.value)


def _checked(layer: Any) -> keras.layers.Layer:
    if not isinstance(layer, keras.layers.Layer) or isinstance(layer, VariationalLayer):
        raise invalid("layer", "a layer of Keras, or your own, whose weights are plain", layer)
    if stateful := [part.name for part in sublayers(layer) if getattr(part, "stateful", False)]:
        mend = "Use stateful=False, and pass initial_state."
        raise invalid("layer", "one without a state of its own, which would be of no one draw", stateful[0], mend)
    return layer


def _with_signature_of(layer: keras.layers.Layer, run: Callable) -> Callable:
    """`run` with the arguments of the layer's call, and `training`."""

    @functools.wraps(layer.call)
    def call(*args, **kwargs):
        return run(*args, **kwargs)

    signature = inspect.signature(layer.call)
    parameters = list(signature.parameters.values())
    if "training" not in signature.parameters:
        training = inspect.Parameter("training", inspect.Parameter.KEYWORD_ONLY, default=None)
        last = [p for p in parameters if p.kind is inspect.Parameter.VAR_KEYWORD]
        parameters = [*[p for p in parameters if p not in last], training, *last]
    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return call


def _same_for_all_draws(noise: Noise, arguments: Any) -> Any:
    parts = keras.tree.flatten(arguments)
    tensors = iter(same_for_all_draws(noise, [part for part in parts if tf.is_tensor(part)]))
    return keras.tree.pack_sequence_as(arguments, [next(tensors) if tf.is_tensor(part) else part for part in parts])


def _symbolic(arguments: Any) -> Any:
    """Tensors as shapes and dtypes, by which Keras builds a layer."""

    def symbolic(value):
        is_tensor = tf.is_tensor(value) or isinstance(value, keras.KerasTensor)
        return keras.KerasTensor(value.shape, keras.backend.standardize_dtype(value.dtype)) if is_tensor else value

    return keras.tree.map_structure(symbolic, arguments)


def in_and_out(shape: Sequence[int]) -> tuple[int, int]:
    """A weight as a matrix, n_in x n_out, its first axes and its others: where n_in + n_out is smallest."""
    shape = tuple(shape)
    splits = [(math.prod(shape[:axis]), math.prod(shape[axis:])) for axis in range(1, len(shape))]
    return min(splits, key=sum)


def larger_than(rank: int, variables: Sequence[keras.Variable]) -> list[keras.Variable]:
    """Those of which a change of this rank is a low one."""
    return [variable for variable in variables if rank < min(in_and_out(variable.shape))]


def rank_too_large(rank: int, variables: Sequence[keras.Variable], layer: keras.layers.Layer) -> InvalidInput:
    """Returns the error for a rank that is not below the sizes of the smallest of `variables`, weights of `layer`."""
    smallest = min(variables, key=lambda variable: min(in_and_out(variable.shape)))
    n_in, n_out = in_and_out(smallest.shape)
    expected = f"a number below n_in and n_out of each weight: {smallest.name} of {layer.name} is {n_in} x {n_out}"
    return invalid("rank", expected, rank, "Choose other weights, or put Variational around the layer.")


def _by_path(layer: keras.layers.Layer, variables: Sequence[keras.Variable]) -> dict[str, keras.Variable]:
    """Path below the layer -> weight."""
    found: dict[str, keras.Variable] = {}
    for variable in variables:
        path = variable.path.removeprefix(f"{layer.name}/")
        found[path if path not in found else f"{path}_{len(found)}"] = variable
    return found


def _named(variables: Sequence[keras.Variable]) -> dict[str, keras.Variable]:
    """Names that are the same in every process: Keras numbers layers inside others, and so their paths, as it goes."""
    found: dict[str, keras.Variable] = {}
    for variable in variables:
        again = sum(name.split(".")[0] == variable.name for name in found)
        found[f"{variable.name}.{again}" if again else variable.name] = variable
    return found


def _choice(weights: Any) -> list[str] | Choice | None:
    if isinstance(weights, dict):
        weights = keras.saving.deserialize_keras_object(weights)
    if weights is None or callable(weights):
        return weights
    if isinstance(weights, str) or not all(isinstance(name, str) for name in weights):
        raise invalid("weights", "names of weights, as ['kernel', 'recurrent_kernel'], or a function", weights)
    return list(weights)
