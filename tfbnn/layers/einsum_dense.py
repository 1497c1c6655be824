"""Dense layers between axes that an equation names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfbnn import estimators
from tfbnn.core.checks import invalid
from tfbnn.core.serialization import register
from tfbnn.layers.base import KernelAndBias, plus_bias


class EinsumDense(KernelAndBias):
    """y = activation(einsum(equation, x, kernel) + bias), as `keras.layers.EinsumDense`.

    The first axis of inputs and outputs is that of the rows, which the kernel does not have.

    Args:
        equation: as "abc,cd->abd"; "..." stands for axes that are kept.
        output_shape: of the outputs without the rows; None for axes that are as in the inputs.
        activation: name or function.
        bias_axes: the axes of the outputs that the bias has, as "d"; None: no bias.
        kernel_posterior_fn, ..., bias_divergence_fn, kl_weight, seed: as in `DenseReparameterization`.

    Inputs and outputs: as the equation says.

    Raises:
        InvalidInput: for an equation that does not go with the inputs.
    """

    def __init__(
        self, equation: str, output_shape: Any, activation: Any = None, bias_axes: str | None = None, **kwargs: Any
    ):
        super().__init__(activation=activation, use_bias=bias_axes is not None, **kwargs)
        self.equation = str(equation)
        self.partial_output_shape = output_shape
        self.bias_axes = bias_axes
        self._check_rows()
        self._as_keras()  # refuses equations that are none

    def _check_rows(self) -> None:
        inputs, kernel, outputs = self._terms()
        row = inputs[:1]
        if not row or row != outputs[:1] or (row in kernel and row != "."):
            raise invalid("equation", "one whose inputs and outputs begin with the axis of the rows", self.equation)
        is_summed = inputs[-1] in kernel and inputs[-1] not in outputs
        is_of_kernel = outputs[-1] in kernel and outputs[-1] not in inputs
        if self.estimator is estimators.flipout and not (is_summed and is_of_kernel):
            raise invalid(
                "equation",
                "for flipout, whose signs are of the last axes, one that sums over the last axis of the inputs and has "
                "one of the kernel's last in the outputs",
                self.equation,
                "Use EinsumDenseReparameterization.",
            )

    def _terms(self) -> tuple[str, str, str]:
        """Letters of inputs, kernel and outputs."""
        sides = self.equation.replace(" ", "").split("->")
        terms = sides[0].split(",")
        if len(sides) != 2 or len(terms) != 2 or not all([*terms, sides[1]]):
            raise invalid("equation", "one of the form 'abc,cd->abd'", self.equation)
        return terms[0], terms[1], sides[1]

    def _as_keras(self) -> keras.layers.EinsumDense:
        return keras.layers.EinsumDense(self.equation, self.partial_output_shape, bias_axes=self.bias_axes)

    def build(self, input_shape):
        """Adds the variables of kernel and bias in the shapes that the equation asks for."""
        plain = self._as_keras()
        try:
            plain.build(input_shape)
        except (ValueError, IndexError) as error:
            expected = f"one that goes with inputs of shape {tuple(input_shape)}"
            raise invalid("equation", expected, self.equation, f"{error}") from None
        self.input_spec = keras.layers.InputSpec(ndim=len(input_shape))
        self.build_weights(tuple(plain.kernel.shape), () if plain.bias is None else tuple(plain.bias.shape))

    def call(self, inputs, training=None):
        """Inputs -> outputs of the equation, one draw."""
        return self.outputs(self._einsum, inputs, False, training)

    def _einsum(self, x: Sequence[tf.Tensor], w: Sequence[tf.Tensor]) -> tf.Tensor:
        outputs = tf.einsum(self.equation, x[0], tf.cast(w[0], x[0].dtype))
        rank = len(outputs.shape)
        ones = [None if part is None else tf.reshape(part, [-1, *[1] * (rank - 1)]) for part in x[1:]]
        return plus_bias(outputs, [x[0], *ones], w)

    def compute_output_shape(self, input_shape):
        """As the equation says."""
        if not self.built:
            self.build(input_shape)
        inputs, kernel, outputs = self._terms()
        sizes = _sizes(kernel, self.weight_posteriors[0].shape) | _sizes(inputs, input_shape)
        return tuple(size for letter in re.findall(r"\.\.\.|.", outputs) for size in sizes[letter])

    def get_config(self):
        """The constructor's arguments."""
        config = super().get_config()
        del config["use_bias"]
        return {
            **config,
            "equation": self.equation,
            "output_shape": self.partial_output_shape,
            "bias_axes": self.bias_axes,
        }


def _sizes(term: str, shape: Sequence[int | None]) -> dict[str, Sequence[int | None]]:
    """Letter -> its size; "..." -> those of all the axes that it stands for."""
    before, dots, after = term.partition("...")
    end = len(shape) - len(after)
    letters = [*zip(before, shape, strict=False), *zip(after, shape[end:], strict=False)]
    return {letter: [size] for letter, size in letters} | ({dots: shape[len(before) : end]} if dots else {})


@register
class EinsumDenseReparameterization(EinsumDense):
    """Dense layer between the axes of an equation; one draw of the weights a call.

    When: posteriors with correlations over several axes.
    Cost: that of its posterior; a plain pass and one draw of the weights.

    Args, inputs and outputs: those of `EinsumDense`.

    Example:
        >>> tfbnn.layers.EinsumDenseReparameterization("abc,cd->abd", output_shape=(None, 64), bias_axes="d")

    Reference: Kingma & Welling 2014; Blundell 2015.
    """

    estimator = staticmethod(estimators.reparameterization)


@register
class EinsumDenseLocalReparameterization(EinsumDense):
    """Dense layer between the axes of an equation; noise on the outputs, at each position its own.

    When: as EinsumDenseFlipout, where an approximation by position is enough.
    Cost: 2 numbers a weight; two products a pass instead of one.

    Args, inputs and outputs: those of `EinsumDense`.

    Example:
        >>> tfbnn.layers.EinsumDenseLocalReparameterization("abc,cd->abd", output_shape=(None, 64))

    Reference: Kingma, Salimans & Welling 2015.
    """

    estimator = staticmethod(estimators.local_reparameterization)


@register
class EinsumDenseFlipout(EinsumDense):
    """Dense layer between the axes of an equation; one draw, turned by random signs for each row.

    When: dense layers over several axes, as attention's projections.
    Cost: 2 numbers a weight; two products a pass instead of one.

    Args, inputs and outputs: those of `EinsumDense`; the equation sums over the last axis of the inputs, and the last
    of the outputs is the kernel's.

    Example:
        >>> tfbnn.layers.EinsumDenseFlipout("abc,cd->abd", output_shape=(None, 64), bias_axes="d")

    Reference: Wen et al. 2018.
    """

    estimator = staticmethod(estimators.flipout)
