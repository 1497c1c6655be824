"""`BayesianModel`: a Keras model trained by the ELBO, in every Keras way."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn import likelihoods
from tfbnn.core.checks import InvalidInput, finite_number, invalid, one_of, positive_integer
from tfbnn.core.draws import save_atomically
from tfbnn.core.noise import Seeded, check_seed, fold_in, noise_scope, one_pass, seed_pair
from tfbnn.core.serialization import register
from tfbnn.core.traversal import sublayers
from tfbnn.layers.base import (
    OutputMoments,
    VariationalLayer,
    drop_moments_of_others,
    kl_owned_by,
    log_ratios_of_draws,
    moments_of_outputs,
)
from tfbnn.objectives import BOUNDS, ElboTerms, mean_log_likelihood, order_of, renyi, schedules
from tfbnn.prediction import MomentDraws, NetworkDraws, Prediction, decompose, mixture, predict_distribution
from tfbnn.training import arrays
from tfbnn.training.last_good import LastGoodWeights
from tfbnn.training.posterior_summary import as_text, posterior_summary

_EAGER_DRAWS = 10  # more are compiled, which costs as much as some twenty of them
SEQUENCE_OF = {"sampling": "independent", "moments": "sobol"}  # by method of prediction, unless told


@register
class BayesianModel(keras.Model):
    """A network and a likelihood, trained by maximising ELBO = E_q[log p(y|X, w)] - KL(q || p).

    The loss is (beta KL - N x mean batch log likelihood) / N, nats a row. `fit` reports, as means over the epoch's
    steps, `elbo`, `log_likelihood` and `kl` (nats, whole training set, units of y), `beta`, and the metrics of
    `compile` on the mean of the step's draws. `evaluate` and validation report `log_likelihood`, the log of the
    mixture of `num_samples` draws, nats a row, and `loss`, its negative.

    Args:
        network: Keras model, [B, ...] -> [B, P]; its variational layers leave `kl_weight` at None.
        likelihood: a `tfbnn.likelihoods` object, or name.
        num_data: N, number of training rows; None: `fit` counts them.
        beta: weight of the KL: a number, or a schedule of `tfbnn.objectives`.
        train_samples: draws of the weights in a training step.
        num_samples: S, draws of the weights in `predict` and `evaluate`.
        bound: what training maximises: "elbo"; or, of K = `train_samples` draws, 2 or more, "renyi" or
            "importance_weighted" (`tfbnn.objectives.renyi`), for layers whose rows share a draw of the weights
            (DenseReparameterization, DenseVariational). All terms but `loss` stay the ELBO's.
        alpha: of "renyi".
        seed: of the noise in training and of prediction; None: another at every construction, then kept and saved.

    Raises:
        InvalidInput: where a layer of the network has `kl_weight` set (the KL would be scaled twice).

    Example:
        >>> network = keras.Sequential([tfbnn.layers.DenseFlipout(20, activation="relu"), tfbnn.layers.DenseFlipout(1)])
        >>> model = tfbnn.BayesianModel(network, tfbnn.likelihoods.Normal().adapt(y))
        >>> model.compile(keras.optimizers.Adam(0.01))
        >>> model.fit(x, y, epochs=100)

    Reference: Blundell et al. 2015, "Weight Uncertainty in Neural Networks", equation 2.
    """

    def __init__(
        self,
        network: keras.Model,
        likelihood: Any,
        num_data: int | None = None,
        beta: Any = 1.0,
        train_samples: int = 1,
        num_samples: int = 100,
        seed: int | None = None,
        bound: str = "elbo",
        alpha: float = 0.5,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.network = network
        self.likelihood = likelihoods.get(likelihood)
        self.beta = schedules.get(beta)
        self.train_samples = positive_integer("train_samples", train_samples)
        self.num_samples = positive_integer("num_samples", num_samples)
        self.bound, self.alpha = one_of("bound", bound, BOUNDS), finite_number("alpha", alpha)
        self._refuse_too_few_draws()
        self.seed = int(np.random.default_rng().integers(2**31)) if seed is None else check_seed("seed", seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)
        self._num_data = self.add_weight(name="num_data", shape=(), dtype="int64", initializer="zeros", trainable=False)
        self._num_data_of_constructor = num_data
        if num_data is not None:
            self.num_data = num_data
        self._refuse_scaled_layers()
        self.tracked: dict[str, keras.metrics.Mean] = {}
        self._add_trackers()
        self.built = network.built

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """`loss` first, as in Keras, then the metrics of `compile`, then the terms of the ELBO."""
        others = [metric for metric in super().metrics if metric.name != "loss"]
        return [self.tracked["loss"], *others]

    # --- one draw ------------------------------------------------------------------------------------------------

    def call(self, inputs, training=None):
        """One draw of the likelihood's complete parameters: [B, ...] -> [B, P']."""
        noise = one_pass(self.seed_generator, sublayers(self), count_calls=self.network.built)
        with kl_owned_by(f"BayesianModel {self.name}"), noise:
            outputs = self.network(inputs, training=training)
        drop_moments_of_others(outputs)
        return self.likelihood(self.likelihood.check_outputs(outputs))

    def build(self, input_shape):
        """Builds the network."""
        builds_itself_when_called = type(self.network).build is keras.Model.build
        if not self.network.built and not builds_itself_when_called:
            self.network.build(input_shape)
        self._refuse_scaled_layers()
        self._add_trackers()  # a network may make its layers when it is built
        self.built = True

    def summary(self, *args: Any, print_fn: Any = None, **kwargs: Any) -> None:
        """As `keras.Model.summary`, then a row a layer that has a posterior: see `tfbnn.training.posterior_summary`."""
        super().summary(*args, print_fn=print_fn, **kwargs)
        if told := as_text(posterior_summary(self)):
            (print_fn or print)(f"Posterior\n{told}")

    # --- the ELBO ------------------------------------------------------------------------------------------------

    @property
    def variational_layers(self) -> list[VariationalLayer]:
        """All layers that have a posterior."""
        return [layer for layer in sublayers(self.network) if isinstance(layer, VariationalLayer)]

    @property
    def num_data(self) -> int | None:
        """N, number of training rows; None where it is not known yet."""
        with tf.init_scope():
            return int(self._num_data.numpy()) or None

    @num_data.setter
    def num_data(self, value: int) -> None:
        self._num_data.assign(positive_integer("num_data", value))

    def kl_divergence(self) -> tf.Tensor:
        """KL(q || p) of all weights: scalar, nats, not scaled by anything."""
        return tf.add_n([tf.zeros([]), *self._kl_of_layers()])

    def _kl_of_layers(self) -> list[tf.Tensor]:
        return [layer.kl_divergence() for layer in self.variational_layers]

    def _layer_names(self) -> list[str]:
        """A name for each variational layer; nested networks may hold layers of one name, which gain a number."""
        names: list[str] = []
        for number, layer in enumerate(self.variational_layers):
            names.append(f"{layer.name}_{number}" if layer.name in names else layer.name)
        return names

    def elbo_terms(
        self, x: Any, y: Any, num_samples: int = 1, seed: int | None = None, sample_weight: Any = None
    ) -> ElboTerms:
        """The terms of the ELBO on rows x, y by the layers' own estimators; N is `num_data`, or len(x) before `fit`.

        Args:
            x: [B, ...].
            y: [B] or [B, T], in its units.
            num_samples: draws of the weights to average over.
            seed: whole number; None: the model's own. The same seed gives the same terms.
            sample_weight: [B] or None.

        Returns:
            `ElboTerms` of scalar tensors, nats.
        """
        x, y, _ = arrays.prepare(x, y, self.likelihood)
        num_samples = positive_integer("num_samples", num_samples)
        seed = self.seed if seed is None else check_seed("seed", seed)
        x = keras.tree.map_structure(tf.convert_to_tensor, x)
        y = self.likelihood.match_target(y)
        arrays.build_network(self, x)
        parameters, kl = self._seeded_draws(x, [fold_in(seed_pair(seed), s) for s in range(num_samples)])
        kl = decompose.mean_over_draws(kl)
        num_data = tf.cast(self.num_data or y.shape[0], tf.float32)
        kl_of_layers = tf.unstack(kl, num=len(self.variational_layers))
        return self._terms(parameters, kl_of_layers, y, sample_weight, num_data, self._present_beta())

    def _seeded_draws(self, x: Any, seeds: Sequence[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """`_seeded_draw` of each seed, on a first axis [S]; many are compiled."""
        if len(seeds) <= _EAGER_DRAWS:
            return tuple(map(tf.stack, zip(*[self._seeded_draw(x, seed) for seed in seeds], strict=True)))
        signature = (tf.TensorSpec(None), tf.TensorSpec([len(self.variational_layers)]))

        def draws(x: Any, seeds: tf.Tensor) -> Any:
            return tf.map_fn(functools.partial(self._seeded_draw, x), seeds, fn_output_signature=signature)

        given = keras.tree.map_structure(tf.convert_to_tensor, x), tf.stack(seeds)
        return tf.function(draws, autograph=False).get_concrete_function(*given)(*given)  # warns of no retracing

    def _seeded_draw(self, x: Any, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Parameters [B, P'] of one draw, and the KL of each layer [layers] (drawn too, where it is Monte Carlo)."""
        with noise_scope(Seeded(seed, sublayers(self))):
            parameters = self(x, training=False)
        with noise_scope(Seeded(seed, sublayers(self))):
            return parameters, tf.stack([tf.zeros([]), *self._kl_of_layers()])[1:]

    def objective(
        self, x: Any, y: tf.Tensor, sample_weight: Any = None, beta: Any = None, passes: Sequence[Any] | None = None
    ) -> tuple[tf.Tensor, ElboTerms, tf.Tensor]:
        """What a step of training minimises, on one batch: `fit` and `tfbnn.train` call it.

        Args:
            x: inputs [B, ...].
            y: targets [B, T], float32 (or int32 classes).
            sample_weight: [B], or None.
            beta: weight of the KL; None: the schedule's at the optimizer's step.
            passes: a source of noise for each of the `train_samples` draws; None: the model's own generator's.

        Returns:
            The draws' parameters [S, B, P'], the `ElboTerms`, and the loss: theirs, and what layers add by `add_loss`.
        """
        passes = [None] * self.train_samples if passes is None else passes
        drawn = [self._training_pass(x, source) for source in passes]
        parameters = tf.stack([parameters for parameters, _, _ in drawn])
        expected = [self._expected_log_likelihood(moments, y) for _, _, moments in drawn]
        log_likelihood = None if any(rows is None for rows in expected) else tf.stack(expected)
        with _noise_of(passes[0]):
            kl = self._kl_of_layers()
        num_data = tf.cast(self._num_data.value, tf.float32)
        beta = self._present_beta() if beta is None else beta
        terms = self._terms(parameters, kl, y, sample_weight, num_data, beta, log_likelihood)
        loss = terms.loss
        if self.bound != "elbo":
            loss = terms.loss_of(self._bound(terms, parameters, [ratios for _, ratios, _ in drawn], y, sample_weight))
        return parameters, terms, tf.add_n([loss, *(tf.cast(extra, tf.float32) for extra in self.losses)])

    def _training_pass(self, x: Any, source: Any) -> tuple[tf.Tensor, dict[int, tf.Tensor], OutputMoments]:
        """Parameters [B, P'] of one draw; log q(w) - log p(w) of its weights by layer, where the bound needs it; and
        the moments of the network's outputs, where their law is known.
        """
        telling: Any = contextlib.nullcontext({}) if self.bound == "elbo" else log_ratios_of_draws()
        with _noise_of(source), telling as log_ratios, moments_of_outputs() as moments:
            return self(x, training=True), log_ratios, moments

    def _expected_log_likelihood(self, moments: OutputMoments, y: tf.Tensor) -> tf.Tensor | None:
        """E_q[log p(y|f)] of each row, [B], in closed form; None where it is to be drawn."""
        if moments.mean is None or self.bound != "elbo":
            return None
        return self.likelihood.expected_log_prob(moments.mean, moments.variance, y)

    def _bound(
        self, terms: ElboTerms, parameters: tf.Tensor, log_ratios: Sequence[dict], y: tf.Tensor, sample_weight: Any
    ) -> tf.Tensor:
        """`bound` of the draws' parameters [K, B, P'] and log ratios: scalar, nats."""
        self._refuse_layers_without_log_ratio(log_ratios[0])
        log_likelihoods = self.likelihood.log_prob(parameters, y)
        means = tf.stack([mean_log_likelihood(rows, sample_weight) for rows in tf.unstack(log_likelihoods)])
        ratios = tf.stack([tf.add_n([tf.zeros([]), *of_layers.values()]) for of_layers in log_ratios])
        return renyi(terms.log_weights(means, ratios), order_of(self.bound, self.alpha))

    def _present_beta(self) -> tf.Tensor:
        return self.beta(tf.convert_to_tensor(self.optimizer.iterations) if getattr(self, "optimizer", None) else 0)

    def _terms(
        self,
        parameters: tf.Tensor,
        kl: Sequence[tf.Tensor],
        y: tf.Tensor,
        sample_weight: Any,
        num_data: tf.Tensor,
        beta: tf.Tensor,
        log_likelihood: tf.Tensor | None = None,
    ) -> ElboTerms:
        """ElboTerms of parameters [S, B, P'], the KL of each layer, and y [B, T].

        `log_likelihood` [S, B], or None: that of the parameters.
        """
        if log_likelihood is None:
            log_likelihood = self.likelihood.log_prob(parameters, y)
        return ElboTerms(
            log_likelihood=num_data * mean_log_likelihood(log_likelihood, sample_weight),
            kl=tf.add_n([tf.zeros([]), *kl]),
            penalty=tf.add_n([tf.zeros([]), *(layer.penalty() for layer in self.variational_layers)]),
            beta=beta,
            num_data=num_data,
            kl_per_layer=dict(zip(self._layer_names(), kl, strict=True)),
        )

    # --- training ------------------------------------------------------------------------------------------------

    def compile(self, optimizer: Any = "adam", loss: Any = None, jit_compile: bool = False, **kwargs: Any):
        """As `keras.Model.compile`, without a loss: the loss is the negative ELBO a row.

        `jit_compile` is False unless told, because random numbers inside XLA on CPUs are slow.
        """
        if loss is not None:
            raise invalid("loss", "none: the loss is the negative ELBO", loss, "Choose the likelihood instead.")
        super().compile(optimizer=optimizer, jit_compile=jit_compile, **kwargs)
        self._build_optimizer()  # so that a model that is saved before it is trained loads without a warning

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        *,
        sample_weight: Any = None,
        num_data: int | None = None,
        **kwargs: Any,
    ):
        """As `keras.Model.fit`; N counts training rows.

        Args:
            x, y: arrays, pandas objects or tensors; or x a dataset that yields (x, y) or (x, y, sample_weight).
            batch_size, epochs, verbose, callbacks, validation_split, validation_data: as in Keras.
            sample_weight: [N], 0 or more: the batch's log likelihood is sum(w ll) / sum(w); N stays the number of rows.
            num_data: N; needed for datasets unless they drop the remainder.
            **kwargs: as in Keras.

        Returns:
            The Keras `History`.

        Raises:
            InvalidInput: for NaN or infinite numbers, shapes that do not fit, unknown N.
            FloatingPointError: where the loss stops being finite; the last good weights are restored.
        """
        x, y, rows = arrays.prepare(x, y, self.likelihood)
        sample_weight = arrays.prepare_weights("sample_weight", sample_weight, rows)
        self.num_data = self.choose_num_data(num_data, arrays.training_rows(x, rows, validation_split))
        validation_data = arrays.prepare_validation(validation_data, self.likelihood)
        if isinstance(x, tf.data.Dataset):
            kwargs = {"shuffle": False, **kwargs}  # Keras would warn that it does not shuffle datasets
        self.build_for(x)
        with LastGoodWeights.guard(callbacks) as callbacks:
            return super().fit(
                x, y, batch_size=batch_size, epochs=epochs, verbose=verbose, callbacks=callbacks,
                validation_split=validation_split, validation_data=validation_data, sample_weight=sample_weight,
                **kwargs,
            )  # fmt: skip

    def build_for(self, x: Any) -> None:
        """Makes all variables before the first step, so that the weights that training starts from can be kept."""
        with self.distribute_strategy.scope():
            arrays.build_network(self, x)
            self._build_optimizer()

    def _build_optimizer(self) -> None:
        everything_is_built = all(layer.built for layer in sublayers(self.network))
        if self.compiled and self.optimizer is not None and not self.optimizer.built and everything_is_built:
            self.optimizer.build(self.trainable_variables)

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any):
        """As `keras.Model.evaluate`: `loss`, `log_likelihood` of the mixture (nats a row), and compiled metrics."""
        x, y, _ = arrays.prepare(x, y, self.likelihood)
        return super().evaluate(x, y, *args, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any):
        """As `keras.Model.predict`: the predictive mean [B, T], or class probabilities, of `num_samples` draws."""
        return super().predict(arrays.as_arrays("x", x), *args, **kwargs)

    def choose_num_data(self, given: int | None, counted: int | None) -> int:
        """N: what `fit` was told, else the constructor, else the rows counted; never that of an earlier `fit`."""
        for num_data in (given, self._num_data_of_constructor, counted):
            if num_data is not None:
                return num_data
        raise _unknown_num_data("Pass fit(dataset, num_data=N).")

    def _refuse_unknown_num_data(self) -> None:
        if self.num_data is None:
            raise _unknown_num_data("Pass BayesianModel(..., num_data=N).")

    def train_step(self, data):
        """One step on -ELBO / N of a batch."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        self._refuse_unknown_num_data()
        y = self._targets(y)
        with tf.GradientTape() as tape:
            parameters, terms, loss = self.objective(x, y, sample_weight)
            scaled = self.optimizer.scale_loss(loss / tf.distribute.get_strategy().num_replicas_in_sync)
        gradients = tape.gradient(scaled, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {**self._report(terms, loss), **self.compiled_metrics_of(x, y, parameters, sample_weight)}

    def test_step(self, data):
        """log (1/S) sum_s p(y|x, w_s), nats a row, of a batch."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        y = self._targets(y)
        parameters = self._draws_of(x)
        rows = mixture.log_prob(self.likelihood, parameters, y)
        weight = None if sample_weight is None else tf.reshape(sample_weight, [-1])
        self.tracked["log_likelihood"].update_state(rows, sample_weight=weight)
        self.tracked["loss"].update_state(-rows, sample_weight=weight)
        scores = {name: self.tracked[name].result() for name in ("loss", "log_likelihood")}
        return {**scores, **self.compiled_metrics_of(x, y, parameters, sample_weight)}

    def predict_step(self, data):
        """The predictive mean of a batch."""
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        return decompose.mean_over_draws(self.likelihood.mean(self._draws_of(x)))

    def _draws_of(self, x: Any) -> tf.Tensor:
        return self.posterior_draws().apply(x, self.seed, 0, self.num_samples)

    def _add_trackers(self) -> None:
        for name in self._reported():
            if name not in self.tracked:
                self.tracked[name] = keras.metrics.Mean(name=name)

    def _reported(self) -> list[str]:
        layers = [f"kl/{name}" for name in self._layer_names()]
        return ["loss", "elbo", "log_likelihood", "kl", "beta", "penalty", *layers]

    def reported(self, terms: ElboTerms, loss: tf.Tensor) -> dict[str, tf.Tensor]:
        """What training tells of a step, by name: the loss, the terms, and the penalty where weights have one."""
        has_penalty = any(t.q.is_point and t.p for layer in self.variational_layers for t in layer.weight_terms)
        return {"loss": loss, **terms.reported(), **({"penalty": terms.penalty} if has_penalty else {})}

    def _report(self, terms: ElboTerms, loss: tf.Tensor) -> dict[str, Any]:
        values = self.reported(terms, loss)
        for name, value in values.items():
            self.tracked[name].update_state(value)
        return {name: self.tracked[name].result() for name in values}

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Metrics of `compile` on the predictive mean; `y_pred` is the likelihood's parameters [..., B, P'].

        Keras calls it with what `call` returns to find out the metrics' shapes.
        """
        means = self.likelihood.mean(y_pred)
        if len(means.shape) == 3:
            means = decompose.mean_over_draws(means)
        return super().compute_metrics(x, self._targets(y), means, sample_weight)

    def compiled_metrics_of(self, x: Any, y: Any, parameters: Any, sample_weight: Any) -> dict[str, Any]:
        """The metrics of `compile`, updated with parameters [S, B, P'] of a batch."""
        every = self.compute_metrics(x, y, parameters, sample_weight)
        return {name: value for name, value in every.items() if name not in self.tracked}

    def _targets(self, y: Any) -> tf.Tensor:
        """y [B, T] of a batch."""
        if y is None:
            raise invalid("x", "a dataset that yields (x, y) or (x, y, sample_weight)", "one that yields x alone")
        return self.likelihood.match_target(y)

    # --- prediction ----------------------------------------------------------------------------------------------

    def posterior_draws(
        self, sequence: str | None = None, method: str = "sampling", covariance: str | None = None
    ) -> NetworkDraws:
        """The posterior as `Draws`, which evaluation, export and serving take; it shares the model's weights.

        Args:
            sequence: how draws go together, "independent", "antithetic" or "sobol": see `NetworkDraws`. None:
                independent ones of the weights, Sobol's points of the moments.
            method: "sampling": of the weights. "moments": of the outputs, whose mean and covariance pass through a
                dense ReLU network in closed form: see `tfbnn.prediction.MomentDraws`.
            covariance: of "moments" alone: "full" (None too) or "diagonal".
        """
        made = self.__dict__.setdefault("_posterior_draws", {})  # past Keras' tracking, which would save weights twice
        sequence = sequence or SEQUENCE_OF[one_of("method", method, SEQUENCE_OF)]
        if method == "sampling" and covariance is not None:
            raise invalid("covariance", "None of method 'sampling', which drops no covariance", covariance)
        if (key := (sequence, method, covariance)) not in made:
            name, seed = f"{self.name}_draws", self.seed
            if method == "sampling":
                made[key] = NetworkDraws(self.network, self.likelihood, seed, sequence, name=name)
            else:
                made[key] = MomentDraws(self.network, self.likelihood, covariance or "full", seed, sequence, name=name)
        return made[key]

    def predict_distribution(
        self,
        x: Any,
        num_samples: int | str = 100,
        seed: int | None = None,
        coupling: str = "marginal",
        sequence: str | None = None,
        max_error: float | None = None,
        method: str = "sampling",
    ) -> Prediction:
        """The predictive distribution of rows x; see `tfbnn.prediction.predict_distribution`.

        `sequence` "sobol" or "antithetic" gives the mean with less error for as many draws. `method` "moments" draws no
        weights: see `posterior_draws`.

        Example:
            >>> model.predict_distribution(x_test, num_samples=200).interval(0.9)
            >>> model.predict_distribution(x_test, num_samples=32, sequence="sobol").mean
            >>> model.predict_distribution(x_test, num_samples="auto", max_error=0.01).num_samples
            >>> model.predict_distribution(x_test, method="moments").stddev
        """
        x = arrays.as_arrays("x", x)
        return predict_distribution(self.posterior_draws(sequence, method), x, num_samples, seed, coupling, max_error)

    # --- saving --------------------------------------------------------------------------------------------------

    def save(self, filepath, overwrite=True, **kwargs):
        """Writes a `.keras` file, whole or not at all."""
        save_atomically(super().save, filepath, overwrite, **kwargs)

    def export(self, filepath, *args, **kwargs):
        """Refused: Keras would export one draw of the weights."""
        mend = f"Use tfbnn.export_saved_model(model, {str(filepath)!r})."
        raise invalid("export", "an export that averages over draws of the weights", "Keras' own", mend)

    def get_config(self):
        """The constructor's arguments."""
        return {
            "name": self.name,
            "network": keras.saving.serialize_keras_object(self.network),
            "likelihood": likelihoods.serialize(self.likelihood),
            "num_data": self._num_data_of_constructor,
            "beta": schedules.serialize(self.beta),
            "train_samples": self.train_samples,
            "num_samples": self.num_samples,
            "seed": self.seed,
            "bound": self.bound,
            "alpha": self.alpha,
        }

    def compile_from_config(self, config):
        """Compiles a loaded model as the saved one was; the optimizer's state follows."""
        self.compile(**keras.saving.deserialize_keras_object(config))

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The model that `get_config` described."""
        parts = {key: keras.saving.deserialize_keras_object(config[key]) for key in ("network", "likelihood", "beta")}
        return cls(**{**config, **parts})

    def _refuse_too_few_draws(self) -> None:
        if self.bound != "elbo" and self.train_samples < 2:
            expected = "2 or more draws, because of one draw every bound is the ELBO"
            raise invalid("train_samples", expected, self.train_samples, "Pass train_samples=10.")

    def _refuse_layers_without_log_ratio(self, told: dict[int, tf.Tensor]) -> None:
        if tf.distribute.get_strategy().num_replicas_in_sync > 1:
            raise invalid(
                "bound", "'elbo' under a strategy of several replicas, whose rows the bound joins", self.bound
            )
        for layer in self.variational_layers:
            if id(layer) not in told:
                raise invalid(
                    f"layer {layer.name}",
                    f"a layer whose rows share a draw of the weights, because bound={self.bound!r} needs its log q(w)",
                    type(layer).__name__,
                    "Use DenseReparameterization or DenseVariational, without a divergence of your own and with a "
                    "posterior that has a density; or 'elbo'.",
                )

    def _refuse_scaled_layers(self) -> None:
        for layer in self.variational_layers:
            layer.refuse_kl_weight(f"BayesianModel {self.name}")


def _noise_of(source: Any) -> Any:
    """The scope of a source of noise; without one, of what surrounds it."""
    return contextlib.nullcontext() if source is None else noise_scope(source)


def _unknown_num_data(mend: str) -> InvalidInput:
    expected = "N, the number of training rows, which the KL is divided by and which these batches do not tell"
    return invalid("num_data", expected, None, mend)
