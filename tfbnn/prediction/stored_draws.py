"""Draws whose weights were found by training or sampling, and are kept: ensembles, snapshots, Markov chains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn.core.checks import invalid
from tfbnn.core.noise import DRAWS_PER_BLOCK
from tfbnn.core.serialization import register
from tfbnn.prediction.monte_carlo import NetworkDraws


def drawn_variables(network: keras.Model, likelihood: keras.layers.Layer) -> list[keras.Variable]:
    """What may differ from draw to draw: all that is trained, and running statistics (BatchNormalization)."""
    statistics = [v for v in network.non_trainable_variables if tf.as_dtype(v.dtype).is_floating]
    return [*network.trainable_variables, *likelihood.trainable_variables, *statistics]


@register
class StoredDraws(NetworkDraws):
    """M kept settings of the weights; draw i has setting i mod M.

    Where the network itself is random (variational layers, dropout), there is no end of draws; else there are M.

    Args:
        network: Keras model, built; its own values are those that all settings share.
        likelihood: turns its outputs into parameters.
        settings: M lists of arrays, each in the order of `drawn_variables(network, likelihood)`.
        endless: whether the network is random.
        seed: used where none is given.
        metadata: JSON-able: what the method has to tell of the draws.
        shapes: of Keras, when it loads a file; `settings` then is None.

    Example:
        >>> draws = StoredDraws(network, likelihood, [[w.numpy() for w in network.trainable_variables]])
    """

    def __init__(
        self,
        network: keras.Model,
        likelihood: keras.layers.Layer,
        settings: Sequence[Sequence[Any]] | None = None,
        endless: bool = False,
        seed: int = 0,
        metadata: dict[str, Any] | None = None,
        shapes: dict[str, list[int]] | None = None,
        **kwargs: Any,
    ):
        super().__init__(network, likelihood, seed, **kwargs)
        self.endless = bool(endless)
        self.metadata = dict(metadata or {})
        stacked = {} if settings is None else self._stacked(settings)
        self.shapes = {str(i): list(values.shape) for i, values in stacked.items()} if shapes is None else dict(shapes)
        self.num_settings = len(settings) if settings is not None else self._settings_of(shapes)
        self.num_draws = None if self.endless else self.num_settings
        self.settings = [self.add_weight(name=f"settings_{i}", shape=shape, initializer="zeros", trainable=False,
                                         dtype="float32", autocast=False)
                         for i, shape in self.shapes.items()]  # fmt: skip
        for variable, values in zip(self.settings, stacked.values(), strict=settings is not None):
            variable.assign(values)

    def _stacked(self, settings: Sequence[Sequence[Any]]) -> dict[int, np.ndarray]:
        """Number of each variable that differs between settings -> [M, ...]; the others are given to the network."""
        variables = drawn_variables(self.network, self.likelihood)
        if not len(settings) or any(len(setting) != len(variables) for setting in settings):
            expected = f"one or more lists of {len(variables)} arrays, one a variable"
            raise invalid("settings", expected, [len(setting) for setting in settings])
        found = {}
        for i, (variable, parts) in enumerate(zip(variables, zip(*settings, strict=True), strict=True)):
            values = np.stack([np.asarray(part, np.float32) for part in parts])
            if len(values) > 1 and (values == values[0]).all() and i:
                variable.assign(values[0])
            else:
                found[i] = values
        return found

    @staticmethod
    def _settings_of(shapes: dict[str, list[int]] | None) -> int:
        if not shapes:
            raise invalid("settings", "lists of arrays, one a variable", None)
        return next(iter(shapes.values()))[0]

    def drawn(self, seed, block):
        """The settings of a block's draws."""
        numbers = (block * DRAWS_PER_BLOCK + tf.range(DRAWS_PER_BLOCK)) % self.num_settings
        variables = drawn_variables(self.network, self.likelihood)
        kept = zip(self.shapes, self.settings, strict=True)
        return [(variables[int(i)], tf.gather(values.value, numbers)) for i, values in kept]

    def get_config(self):
        """The constructor's arguments, but for the settings, which are weights."""
        return {
            **super().get_config(),
            "endless": self.endless,
            "metadata": self.metadata,
            "shapes": self.shapes,
        }
