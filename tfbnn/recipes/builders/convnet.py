"""Convolutional networks for images whose pixels are the columns of a table: LeNet-5, and a small residual network."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import keras
import pydantic

from tfbnn.core.checks import invalid, one_of
from tfbnn.recipes.builders.base import (
    OUTPUT,
    Activation,
    BayesianOptions,
    Count,
    arranged,
    chosen,
    initial_kernels,
    with_posteriors,
)

SMALLEST = 4  # pixels a side that two poolings leave one of
GROUPS = 8


class Options(BayesianOptions):
    """Keys of `model` for builder `convnet`, beside those of `BayesianOptions`.

    Attributes:
        shape: height, width and channels of the image; the columns are its pixels, row by row, channels fastest.
        architecture: "lenet5", with its filters, units and poolings (where the image is too small for it, the second
            convolution pads too); or "resnet", a convolution and three stages of residual blocks, each of half the
            size and twice the filters of the one before, normalised over groups of channels of each image: statistics
            of a batch would be those of other draws too.
        filters, blocks: of a resnet: channels of the first stage, and blocks a stage.
        activation: of the hidden layers, a name of `keras.activations`.
    """

    shape: list[Count]
    architecture: str = "lenet5"
    filters: Count = 16
    blocks: Count = 1
    activation: Activation = "relu"

    @pydantic.field_validator("architecture")
    @classmethod
    def _known_architecture(cls, name: str) -> str:
        return one_of("architecture", name, ARCHITECTURES)

    @pydantic.field_validator("shape")
    @classmethod
    def _of_an_image(cls, shape: list[int]) -> list[int]:
        if len(shape) != 3 or min(shape[:2]) < SMALLEST:
            raise invalid("shape", f"[height, width, channels], of {SMALLEST} x {SMALLEST} pixels or more", shape)
        return shape

    @pydantic.model_validator(mode="after")
    def _keys_of_its_architecture(self) -> Options:
        if self.architecture == "lenet5":
            self.refuse_set(("filters", "blocks"), "because lenet5 has its own; it is of architecture: resnet")
        return self


def build(options: Options, num_features: int, num_outputs: int, seed: int) -> keras.Model:
    """The network [B, D] -> [B, P].

    Args:
        options: keys of `model` in the recipe.
        num_features: D, height x width x channels.
        num_outputs: P, what the likelihood needs.
        seed: of the initial weights, and of the noise in a plain Keras model.

    Raises:
        InvalidInput: where the shape has not D places, or estimator, prior and posterior do not go together.
    """
    inputs, images = arranged(num_features, "shape", options.shape)
    kernels = initial_kernels(seed)
    hidden = ARCHITECTURES[options.architecture](options, images, kernels)
    outputs = keras.layers.Dense(num_outputs, kernel_initializer=next(kernels), name=OUTPUT)(hidden)
    network = keras.Model(inputs, outputs, name=options.architecture)
    return with_posteriors(network, chosen(network, options.bayesian), options, seed)


def _lenet5(options: Options, images: Any, kernels: Iterator[keras.initializers.Initializer]) -> Any:
    """[B, H, W, C] -> [B, 84] (LeCun, Bottou, Bengio & Haffner 1998), of a whole second convolution."""
    layers, activation = keras.layers, options.activation
    fits = min(options.shape[:2]) // 2 - 4 >= 2  # 5 x 5 takes 4 off, and two are pooled into one
    x = layers.Conv2D(6, 5, padding="same", activation=activation, kernel_initializer=next(kernels), name="conv_0")(
        images
    )
    x = layers.AveragePooling2D(2, name="pool_0")(x)
    x = layers.Conv2D(16, 5, padding="valid" if fits else "same", activation=activation,
                      kernel_initializer=next(kernels), name="conv_1")(x)  # fmt: skip
    x = layers.AveragePooling2D(2, name="pool_1")(x)
    x = layers.Flatten(name="flat")(x)
    for i, units in enumerate((120, 84)):
        x = layers.Dense(units, activation, kernel_initializer=next(kernels), name=f"dense_{i}")(x)
    return x


def _resnet(options: Options, images: Any, kernels: Iterator[keras.initializers.Initializer]) -> Any:
    """[B, H, W, C] -> [B, 4 filters] (He, Zhang, Ren & Sun 2016, as for CIFAR-10; normalised as Wu & He 2018)."""

    def convolved(x, filters, size, strides, name):
        return keras.layers.Conv2D(filters, size, strides, "same", use_bias=False, kernel_initializer=next(kernels),
                                   name=name)(x)  # fmt: skip

    def normalised(x, name):
        groups = math.gcd(GROUPS, x.shape[-1])
        return keras.layers.GroupNormalization(groups, name=f"{name}_normalised")(x)

    def activated(x, name):
        return keras.layers.Activation(options.activation, name=f"{name}_activated")(x)

    def block(x, filters, strides, name):
        inner = activated(normalised(convolved(x, filters, 3, strides, f"{name}_conv_0"), f"{name}_conv_0"), name)
        inner = normalised(convolved(inner, filters, 3, 1, f"{name}_conv_1"), f"{name}_conv_1")
        same = x.shape == inner.shape
        skip = x if same else convolved(x, filters, 1, strides, f"{name}_skip")
        return activated(keras.layers.Add(name=f"{name}_sum")([inner, skip]), f"{name}_sum")

    x = activated(normalised(convolved(images, options.filters, 3, 1, "stem"), "stem"), "stem")
    for stage in range(3):
        for i in range(options.blocks):
            strides = 2 if stage and not i else 1
            x = block(x, options.filters * 2**stage, strides, f"stage_{stage}_block_{i}")
    return keras.layers.GlobalAveragePooling2D(name="mean_of_places")(x)


ARCHITECTURES = {"lenet5": _lenet5, "resnet": _resnet}
