"""What builders share: kinds of keys, features at their places, seeded initial weights, posteriors on a plain net."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import keras
import pydantic

from tfbnn import posteriors, priors
from tfbnn.core.checks import InvalidInput, invalid, one_of
from tfbnn.layers.bayesianize import ESTIMATORS, bayesianize
from tfbnn.recipes.named import check_named

OUTPUT = "output"  # name of the layer that ends in what the likelihood takes
NARROW = {"class": "Normal", "scale": 0.3}
FACTORISED = (posteriors.MeanField, posteriors.Deterministic)
NORMALISATIONS = (keras.layers.LayerNormalization, keras.layers.GroupNormalization)


# --- kinds of keys ----------------------------------------------------------------------------------------------------


def _known_activation(name: str, info: pydantic.ValidationInfo) -> str:
    known = [word for word in dir(keras.activations) if word.islower() and not word.startswith("_")]
    known = [word for word in known if word not in ("get", "serialize", "deserialize")]
    return one_of(str(info.field_name), name, known)


def _known_prior(identifier: Any, info: pydantic.ValidationInfo) -> Any:
    key = str(info.field_name)
    try:
        return None if identifier is None else check_named(key, identifier, priors.get)
    except InvalidInput as error:
        first, *rest = (error.where or "").split(".")
        raise error.at(".".join([key, *rest])) if first == "prior" else error from None  # `prior`, whatever the key


def _known_posterior(identifier: Any, info: pydantic.ValidationInfo) -> Any:
    return check_named(str(info.field_name), identifier, posteriors.get)


Count = Annotated[int, pydantic.Field(gt=0, strict=True)]  # strict: YAML's true would be 1
Activation = Annotated[str, pydantic.AfterValidator(_known_activation)]
Prior = Annotated[Any, pydantic.AfterValidator(_known_prior)]
Posterior = Annotated[Any, pydantic.AfterValidator(_known_posterior)]


class BayesianOptions(pydantic.BaseModel):
    """Keys of `model` that tell how the weights of a network are Bayesian, whatever the network.

    Attributes:
        estimator: "flipout", "local_reparameterization" or "reparameterization", of layers that have it; a recurrent
            layer has one draw of its weights a call.
        prior, posterior: of every kernel and bias: a name, or a mapping with `class` and arguments. A prior of none
            goes with posterior Deterministic alone. The default, Normal of scale 0.3, is narrow because weights are
            not scaled by the width.
        bayesian: which layers are: "all", "last", or their names; the others are plain, normalisations always.
    """

    model_config = pydantic.ConfigDict(extra="forbid")

    estimator: str = "flipout"
    prior: Prior = NARROW
    posterior: Posterior = "MeanField"
    bayesian: Literal["all", "last"] | list[str] = "all"

    @pydantic.field_validator("estimator")
    @classmethod
    def _known_estimator(cls, name: str) -> str:
        return one_of("estimator", name, ESTIMATORS)

    @pydantic.field_validator("bayesian")
    @classmethod
    def _some_layer(cls, which: str | list[str]) -> str | list[str]:
        if not which:
            raise invalid("bayesian", "'all', 'last', or names of layers", which)
        return which

    def refuse_set(self, names: Sequence[str], because: str) -> None:
        """Raises where one of these keys is not as it is unless told."""
        for name in names:
            default = type(self).model_fields[name].default
            if getattr(self, name) != default:
                raise invalid(name, f"it to be left out, {because}", getattr(self, name))


# --- networks ---------------------------------------------------------------------------------------------------------


def arranged(num_features: int, key: str, shape: Sequence[int]) -> tuple[Any, Any]:
    """(inputs [B, D], the same at their places [B, *shape]), the last axis fastest; `key` gave the shape.

    Raises:
        InvalidInput: where the shape has another number of places than D.
    """
    if math.prod(shape) != num_features:
        expected = f"sizes whose product is {num_features}, the number of features"
        raise invalid(key, expected, list(shape), f"Their product is {math.prod(shape)}.")
    inputs = keras.Input((num_features,), name="features")
    return inputs, keras.layers.Reshape(tuple(shape), name="places")(inputs)


def in_steps(num_features: int, steps: int) -> tuple[Any, Any]:
    """(inputs [B, D], the same as [B, steps, D / steps]): the features of the first step, then those of the next.

    Raises:
        InvalidInput: where the steps do not divide D.
    """
    if num_features % steps:
        raise invalid("steps", f"a number that divides {num_features}, the number of features", steps)
    return arranged(num_features, "steps", (steps, num_features // steps))


def initial_kernels(seed: int) -> Iterator[keras.initializers.Initializer]:
    """Glorot's initial weights for one kernel after another, each of a seed of its own."""
    return (keras.initializers.GlorotUniform(own) for own in itertools.count(seed))


def chosen(network: keras.Model, bayesian: str | Sequence[str], last: Sequence[str] = (OUTPUT,)) -> list[str]:
    """Names of the layers of a plain network that shall be Bayesian.

    Args:
        network: built.
        bayesian: of `BayesianOptions`.
        last: what "last" means.

    Raises:
        InvalidInput: for a name that no layer with a kernel has.
    """
    with_kernel = [layer for layer in network.layers if layer.trainable_variables]
    names = [layer.name for layer in with_kernel if not isinstance(layer, NORMALISATIONS)]
    if isinstance(bayesian, str):
        return names if bayesian == "all" else [name for name in names if name in last]
    return [one_of("bayesian", name, names) for name in bayesian]


def with_posteriors(network: keras.Model, names: Sequence[str], options: BayesianOptions, seed: int) -> keras.Model:
    """The plain network with posteriors on the weights of these layers, whose means are the weights they have.

    Raises:
        InvalidInput: where estimator, prior and posterior do not go together.
    """
    _check_estimator(options)
    try:
        made, became = bayesianize(network, names, options.estimator, options.posterior, options.prior, seed=seed)
    except InvalidInput as error:
        raise of_the_key(error) from None
    for line in became[became["what"] == "refused"].itertuples():
        raise invalid("bayesian", "layers that can have a posterior", line.layer, f"{line.why}")
    return made


def _check_estimator(options: BayesianOptions) -> None:
    if options.estimator != "reparameterization" and not isinstance(posteriors.get(options.posterior), FACTORISED):
        mend = "Or set model.estimator: reparameterization, which is right for every posterior."
        expected = f"MeanField, the factorised Gaussian that {options.estimator} needs to be right"
        raise invalid("posterior", expected, options.posterior, mend)


def of_the_key(error: InvalidInput) -> InvalidInput:
    """`kernel_posterior_fn` of a layer is the recipe's `posterior`."""
    for key in ("prior", "posterior"):
        if (error.where or "").endswith(f"{key}_fn"):
            return error.at(key)
    return error
