"""Draws of SWAG's Gaussians: a diagonal and a low-rank part about the mean of snapshots.

The class stands here, not with the method, so that a file of draws loads without `tfbnn.inference`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn.core.checks import finite_number
from tfbnn.core.noise import DRAWS_PER_BLOCK, fold_in, normal_from_bits, seed_of_tensor
from tfbnn.core.serialization import register
from tfbnn.prediction.monte_carlo import NetworkDraws

NOISE = -1  # key of the draws' own seeds, beside the layers' indices


@register
class SWAGDraws(NetworkDraws):
    """Endless draws w = mean_m + scale (stddev_m z1 / sqrt(2) + D_m z2 / sqrt(2 (K - 1))), m = i mod M for draw i.

    Args:
        network: Keras model, built.
        likelihood: turns its outputs into parameters.
        moments: of each of M members (`tfbnn.inference.swag.Moments`), over `[*network.trainable_variables,
            *likelihood.trainable_variables]`.
        scale: of the deviations from the mean.
        seed: used where none is given.
        shapes, members, rank: of Keras, when it loads a file; `moments` then is None.
    """

    def __init__(
        self,
        network: keras.Model,
        likelihood: keras.layers.Layer,
        moments: Sequence[Any] | None = None,
        scale: float = 1.0,
        seed: int = 0,
        shapes: Sequence[Sequence[int]] | None = None,
        members: int | None = None,
        rank: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(network, likelihood, seed, **kwargs)
        self.scale = finite_number("scale", scale, smallest=0.0)
        given = moments or []
        self.shapes = [list(shape) for shape in shapes or [mean.shape for mean in given[0].mean]]
        self.members = members or len(given)
        self.rank = rank or min(one.rank for one in given)
        self.mean = self._add("mean", [self.members], [one.mean for one in given])
        self.stddev = self._add("stddev", [self.members], [one.stddev for one in given])
        self.deviations = self._add("deviations", [self.members, self.rank], [self._last(one) for one in given])

    def _last(self, moments: Any) -> list[np.ndarray]:
        """The last deviations, as many as every member has."""
        rows = [t % len(moments.deviations[0]) for t in range(moments.count - self.rank, moments.count)]
        return [deviations[rows] for deviations in moments.deviations]

    def _add(self, name: str, lead: list[int], of_members: Sequence[Sequence[np.ndarray]]) -> list[keras.Variable]:
        """A weight [*lead, *shape] for each variable, with the members' values, where there are any."""
        weights = [self.add_weight(name=f"{name}_{i}", shape=(*lead, *shape), initializer="zeros", trainable=False,
                                   dtype="float32", autocast=False)
                   for i, shape in enumerate(self.shapes)]  # fmt: skip
        for weight, values in zip(weights, zip(*of_members, strict=True), strict=bool(of_members)):
            weight.assign(np.stack(values))
        return weights

    def drawn(self, seed, block):
        """The weights of a block's draws."""
        members = (block * DRAWS_PER_BLOCK + tf.range(DRAWS_PER_BLOCK)) % self.members
        z2 = self._normal(seed, "low_rank", block, [self.rank])
        of_member = tf.one_hot(members, self.members)  # [10, M]; so no draw gathers its member's D, K times its size
        z2 = tf.reshape(of_member[:, :, tf.newaxis] * z2[:, tf.newaxis, :], [DRAWS_PER_BLOCK, -1])
        to_stddev, to_low_rank = self.scale / math.sqrt(2.0), self.scale / math.sqrt(2.0 * (self.rank - 1))
        found = []
        for i, (variable, mean, stddev, deviations) in enumerate(
            zip(self._variables(), self.mean, self.stddev, self.deviations, strict=True)
        ):
            z1 = self._normal(seed, f"diagonal_{i}", block, self.shapes[i])
            columns = tf.reshape(deviations.value, [self.members * self.rank, -1])
            low_rank = tf.reshape(z2 @ columns, [DRAWS_PER_BLOCK, *self.shapes[i]])
            diagonal = tf.gather(stddev.value, members) * z1
            found.append((variable, tf.gather(mean.value, members) + to_stddev * diagonal + to_low_rank * low_rank))
        return found

    @staticmethod
    def _normal(seed: tf.Tensor, name: str, block: tf.Tensor, shape: list[int]) -> tf.Tensor:
        return normal_from_bits([DRAWS_PER_BLOCK, *shape], fold_in(seed_of_tensor(seed, NOISE, name), block))

    def _variables(self) -> list[keras.Variable]:
        return [*self.network.trainable_variables, *self.likelihood.trainable_variables]

    def get_config(self):
        """The constructor's arguments, but for the moments, which are weights."""
        own = {"scale": self.scale, "shapes": self.shapes, "members": self.members, "rank": self.rank}
        return {**super().get_config(), **own}
