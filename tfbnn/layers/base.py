"""What all variational layers share: weights with q and p, an estimator, the KL, and who scales it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import keras
import tensorflow as tf

from tfbnn import posteriors, priors
from tfbnn.core.checks import InvalidInput, factory_argument, finite_number, invalid
from tfbnn.core.noise import Noise, check_seed, noise_for
from tfbnn.core.serialization import serialize_function
from tfbnn.core.tfp_factory import takes
from tfbnn.divergence import as_one_event, kl_divergence, monte_carlo_kl, of_kept, user_divergence
from tfbnn.estimators import Estimator, Op, check_factorised, local_reparameterization, reparameterization

_KL_OWNER: ContextVar[str | None] = ContextVar("tfbnn_kl_owner", default=None)


@contextlib.contextmanager
def kl_owned_by(model: str) -> Iterator[None]:
    """Layers called inside leave the KL to `model`, which adds it once, with 1/N and beta."""
    token = _KL_OWNER.set(model)
    try:
        yield
    finally:
        _KL_OWNER.reset(token)


_LOG_RATIOS: ContextVar[dict[int, tf.Tensor] | None] = ContextVar("tfbnn_log_ratios", default=None)


@contextlib.contextmanager
def log_ratios_of_draws() -> Iterator[dict[int, tf.Tensor]]:
    """Layers called inside tell log q(w) - log p(w) of the weights they draw, by their `id`, where all rows share w."""
    found: dict[int, tf.Tensor] = {}
    token = _LOG_RATIOS.set(found)
    try:
        yield found
    finally:
        _LOG_RATIOS.reset(token)


@dataclasses.dataclass
class OutputMoments:
    """Mean and variance, float32 [B, U], of `outputs`, which are a draw of them; None where nobody told them."""

    outputs: Any = None
    mean: Any = None
    variance: Any = None


_MOMENTS: ContextVar[OutputMoments | None] = ContextVar("tfbnn_output_moments", default=None)


@contextlib.contextmanager
def moments_of_outputs() -> Iterator[OutputMoments]:
    """A network called inside tells the moments of its outputs, where it ends with a layer that knows their law."""
    token = _MOMENTS.set(found := OutputMoments())
    try:
        yield found
    finally:
        _MOMENTS.reset(token)


def tell_moments(outputs: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor) -> None:
    """What a layer tells of its outputs."""
    if (found := _MOMENTS.get()) is not None:
        found.outputs, found.mean, found.variance = outputs, mean, variance


def drop_moments_of_others(outputs: tf.Tensor) -> None:
    """What was told counts for the network's `outputs` alone: not where another layer came after."""
    if (found := _MOMENTS.get()) is not None and found.outputs is not outputs:
        found.outputs = found.mean = found.variance = None


@dataclasses.dataclass(frozen=True)
class WeightTerm:
    """One tensor of weights: its posterior, its prior (or None), and how far apart they are."""

    q: posteriors.WeightPosterior
    p: priors.WeightPrior | None
    divergence_fn: Callable | None = None

    def kl(self, noise: Noise) -> tf.Tensor:
        """KL(q || p), nats, summed over the tensor; 0 for a point, which has no KL."""
        if self.q.is_point or self.p is None:
            return tf.zeros([])
        q, p = self.q.distribution(), self._prior_of_kept(self.p)
        if self.divergence_fn is not None:
            return user_divergence(self.divergence_fn, q, p)
        return kl_divergence(q, p, self.q.name, noise, getattr(self.q, "transform", None))

    def log_ratio(self, noise: Noise) -> tf.Tensor:
        """log q(w) - log p(w), nats, of the draw that the layer makes of `noise`; 0 for a point."""
        if self.q.is_point or self.p is None:
            return tf.zeros([])
        q, p = as_one_event(self.q.distribution()), as_one_event(self._prior_of_kept(self.p))
        return monte_carlo_kl(q, p, self.q.sample(noise))

    def _prior_of_kept(self, p: priors.WeightPrior) -> Any:
        return of_kept(p.distribution(), self.q.kept, f"prior of {self.q.name}")

    def penalty(self) -> tf.Tensor:
        """-log p(w), nats, of a point that has a prior; else 0."""
        if not self.q.is_point or self.p is None:
            return tf.zeros([])
        return -tf.reduce_sum(self.p.distribution().log_prob(self.q.factorised_gaussian[0]))  # type: ignore[index]


class VariationalLayer(keras.layers.Layer):
    """A layer whose weights have a posterior and a prior. Subclasses give the op, the inputs and the estimator.

    Args:
        kl_weight: None under `BayesianModel`, which scales the KL itself. In a plain Keras model: 1 / N, where N is
            the number of training rows (the layer adds kl_weight * KL by `add_loss`), or 0.0 where you add
            `layer.kl_divergence()` to the loss yourself.
        seed: of the initial means, and of the noise where the layer is trained in a plain Keras model, in which two
            layers of one seed have the same noise; None: another at every construction.
    """

    estimator: Estimator = staticmethod(reparameterization)

    def __init__(self, *, kl_weight: float | None = None, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.kl_weight = None if kl_weight is None else finite_number("kl_weight", kl_weight, smallest=0.0)
        self.seed = None if seed is None else check_seed("seed", seed)
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.weight_terms: tuple[WeightTerm, ...] = ()

    def add_term(
        self, name: str, shape: tuple[int, ...], posterior: Any, prior: Any, divergence_fn: Callable | None, init: Any
    ) -> None:
        """Builds q and p of tensor `name`; the order of calls is the order of w in the op."""
        if posterior is None:
            raise invalid(
                factory_argument(self, name, "posterior"),
                "a posterior",
                None,
                "Use 'MeanField', or 'Deterministic' for a plain weight.",
            )
        q = posterior.build(self, name, shape, init)
        if prior is None and not q.is_point:
            raise invalid(
                factory_argument(self, name, "prior"),
                "a prior: without one nothing keeps the posterior from shrinking to a point",
                None,
                "Use 'Normal', or posterior 'Deterministic' for a plain weight.",
            )
        if q.is_point and prior is not None and prior.has_learned_scale:
            raise invalid(
                factory_argument(self, name, "prior"),
                "a prior of fixed scale for a posterior of points: -log p(w) of a learned one falls without end, or, "
                "under a hyper-prior, so far that all weights vanish",
                prior,
                "Use 'Normal', or posterior 'MeanField'.",
            )
        if prior is not None and q.has_spike != prior.has_spike and (divergence_fn is None or q.is_point):
            raise _refused_spike(self, name, q, posterior, prior)
        p = None if prior is None else prior.build(self, name, shape)
        self.weight_terms = (*self.weight_terms, WeightTerm(q, p, divergence_fn))

    @property
    def weight_posteriors(self) -> list[posteriors.WeightPosterior]:
        """q of each tensor, in the order of the op."""
        return [term.q for term in self.weight_terms]

    def sample_weights(self, noise: Noise | None = None) -> list[tf.Tensor]:
        """One draw of each tensor, in the order of the op; `noise` None: the current source's."""
        noise = noise or self._noise()
        return [q.sample(noise) for q in self.weight_posteriors]

    def kl_divergence(self, noise: Noise | None = None) -> tf.Tensor:
        """KL(q || p) of all weights of the layer: scalar float32, nats, summed, not scaled by anything.

        Args:
            noise: for divergences that need a draw; None: the current source's.
        """
        self._refuse_unbuilt()
        noise = noise or self._noise()
        return tf.add_n([tf.zeros([]), *(term.kl(noise) for term in self.weight_terms)])

    def penalty(self) -> tf.Tensor:
        """-log p(w) of the layer's point weights that have a prior: scalar float32, nats."""
        self._refuse_unbuilt()
        return tf.add_n([tf.zeros([]), *(term.penalty() for term in self.weight_terms)])

    def _refuse_unbuilt(self) -> None:
        if not self.weight_terms:
            raise invalid(
                f"layer {self.name}",
                "a built layer, whose KL is that of its weights",
                "one that has no weights yet",
                "Call it or its model once on data, or give the model a keras.Input.",
            )

    def _noise(self) -> Noise:
        return noise_for(self, self.seed_generator)

    def _estimate(self, op: Callable, x: list[Any], weights_meet_rows_once: bool, training: bool) -> tf.Tensor:
        """y of the op with drawn weights: by the layer's estimator in training, else as the noise couples rows."""
        q, noise = self.weight_posteriors, self._noise()
        self._settle_kl(noise, training)
        self._tell_log_ratio(noise)
        x = same_for_all_draws(noise, x)
        if all(posterior.is_point for posterior in q):
            return op(x, self.sample_weights(noise))
        if noise.coupling is None:
            self._refuse_second_call(noise)
            return self.estimator(op, x, q, noise)
        factorised = all(posterior.factorised_gaussian is not None for posterior in q)
        if noise.coupling == "marginal" and factorised and weights_meet_rows_once:
            return local_reparameterization(op, x, q, noise)
        return reparameterization(op, x, q, noise)

    def _tell_log_ratio(self, noise: Noise) -> None:
        found = _LOG_RATIOS.get()
        is_shared = self.estimator is reparameterization or all(term.q.is_point for term in self.weight_terms)
        has_densities = not any(term.divergence_fn or term.q.has_spike for term in self.weight_terms)
        if found is not None and is_shared and has_densities:
            found[id(self)] = tf.add_n([tf.zeros([]), *(term.log_ratio(noise) for term in self.weight_terms)])

    def _refuse_second_call(self, noise: Noise) -> None:
        if noise.calls > 1 and self.estimator is not reparameterization:
            raise invalid(
                f"layer {self.name}",
                "a layer that the network calls once, because its estimator gives every call other weights",
                f"a {type(self).__name__} that is called again",
                f"Use {_of_one_draw(type(self).__name__)}, whose one draw of the weights serves all calls.",
            )

    def _settle_kl(self, noise: Noise, training: bool) -> None:
        """Sees to it that the KL enters the loss exactly once, whoever trains the layer; predictions have no loss."""
        owner = _KL_OWNER.get()
        if owner is not None:
            self.refuse_kl_weight(owner)
        elif noise.coupling is not None:
            return
        elif self.kl_weight:
            self.add_loss(self.kl_weight * (self.kl_divergence() + self.penalty()))
        elif self.kl_weight is None and training and self.trainable:
            _refuse_missing_kl_weight(self)

    def refuse_kl_weight(self, owner: str) -> None:
        """Raises where `kl_weight` is set although `owner` scales the KL."""
        if self.kl_weight is not None:
            raise invalid(
                f"kl_weight of layer {self.name}",
                f"None, because {owner} scales the KL itself by beta / N (twice would be wrong)",
                self.kl_weight,
                "Leave kl_weight out.",
            )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "kl_weight": self.kl_weight, "seed": self.seed}


class Bilinear(VariationalLayer):
    """activation(op(x, w)) of an op that is bilinear in x = [inputs, 1] and w = [kernel, bias]; channels are last.

    Args:
        activation: name or function, as in `keras.layers.Dense`.
        use_bias: whether there is a bias.
        kl_weight, seed: of `VariationalLayer`.
    """

    def __init__(self, activation: Any = None, use_bias: bool = True, **kwargs: Any):
        super().__init__(**kwargs)
        self.activation = keras.activations.get(activation)
        self.use_bias = bool(use_bias)

    def outputs(self, op: Op, inputs: tf.Tensor, weights_meet_rows_once: bool, training: bool | None) -> tf.Tensor:
        """The activated outputs of one draw."""
        inputs = tf.cast(inputs, self.compute_dtype)
        ones = [None] if self.use_bias else []
        return self.activation(self._estimate(op, [inputs, *ones], weights_meet_rows_once, bool(training)))

    def get_config(self):
        """The constructor's arguments."""
        activation = keras.activations.serialize(self.activation)
        return {**super().get_config(), "activation": activation, "use_bias": self.use_bias}


class KernelAndBias(Bilinear):
    """Kernel and bias with a posterior and a prior each.

    Args:
        activation, use_bias: of `Bilinear`.
        kernel_posterior_fn: q of the kernel: a `tfbnn.posteriors` object or name, or a TFP factory function of
            (dtype, shape, name, trainable, add_variable_fn).
        kernel_prior_fn: p of the kernel: a `tfbnn.priors` object or name, or a TFP factory function; None only with
            a Deterministic posterior.
        kernel_divergence_fn: function of (q, p) or (q, p, ignored) -> nats, unscaled; None: KL(q || p), exact where
            TFP knows it, else one Monte Carlo draw.
        bias_posterior_fn, bias_prior_fn, bias_divergence_fn: the same for the bias.
        kl_weight, seed: of `VariationalLayer`.
    """

    def __init__(
        self,
        kernel_posterior_fn: Any = "MeanField",
        kernel_prior_fn: Any = "Normal",
        kernel_divergence_fn: Any = None,
        bias_posterior_fn: Any = "MeanField",
        bias_prior_fn: Any = "Normal",
        bias_divergence_fn: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.kernel_posterior_fn = posteriors.get(kernel_posterior_fn)
        self.kernel_prior_fn = priors.get(kernel_prior_fn)
        self.kernel_divergence_fn = check_divergence("kernel_divergence_fn", kernel_divergence_fn)
        self.bias_posterior_fn = posteriors.get(bias_posterior_fn)
        self.bias_prior_fn = priors.get(bias_prior_fn)
        self.bias_divergence_fn = check_divergence("bias_divergence_fn", bias_divergence_fn)

    def build_weights(self, kernel: tuple[int, ...], bias: tuple[int, ...]) -> None:
        """Adds the variables of a kernel and a bias of these shapes."""
        self._add("kernel", kernel, keras.initializers.GlorotUniform(seed=self.seed))
        if self.use_bias:
            self._add("bias", bias, "zeros")
        if self.estimator is not reparameterization:
            check_factorised(self.weight_posteriors, self.estimator.__name__.replace("_", " "))
        self.built = True

    def _add(self, name: str, shape: tuple[int, ...], init: Any) -> None:
        posterior, prior = getattr(self, f"{name}_posterior_fn"), getattr(self, f"{name}_prior_fn")
        self.add_term(name, shape, posterior, prior, getattr(self, f"{name}_divergence_fn"), init)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "kernel_posterior_fn": posteriors.serialize(self.kernel_posterior_fn),
            "kernel_prior_fn": priors.serialize(self.kernel_prior_fn),
            "kernel_divergence_fn": divergence_config("kernel_divergence_fn", self.kernel_divergence_fn),
            "bias_posterior_fn": posteriors.serialize(self.bias_posterior_fn),
            "bias_prior_fn": priors.serialize(self.bias_prior_fn),
            "bias_divergence_fn": divergence_config("bias_divergence_fn", self.bias_divergence_fn),
        }


def same_for_all_draws(noise: Noise, inputs: list[Any]) -> list[Any]:
    """The inputs; where no noise came before them, those that were computed once for all draws."""
    return noise.shared("inputs", lambda: inputs, of=inputs)


def plus_bias(outputs: tf.Tensor, x: Sequence[Any], w: Sequence[tf.Tensor]) -> tf.Tensor:
    """The end of every op: 1 bias more, where w is [kernel, bias]; x is [inputs, ones], or None for the constant 1."""
    if len(w) == 1:
        return outputs
    bias = tf.cast(w[1], outputs.dtype)
    if x[1] is not None:
        return outputs + x[1] * bias
    return tf.nn.bias_add(outputs, bias) if len(bias.shape) == 1 else outputs + bias  # one operation with a product


def _refused_spike(layer: VariationalLayer, name: str, q: Any, posterior: Any, prior: Any) -> InvalidInput:
    if q.has_spike:
        return invalid(
            factory_argument(layer, name, "prior"),
            f"SpikeAndSlab, because under {type(posterior).__name__} weights are exactly 0 with a probability above 0, "
            "which under a prior with a density they never are: the KL is infinite",
            prior,
            "Use tfbnn.priors.SpikeAndSlab(), or posterior 'MeanField'.",
        )
    return invalid(
        factory_argument(layer, name, "posterior"),
        f"one whose weights are exactly 0 in some draws, as HardConcrete, because the prior is {type(prior).__name__}, "
        "whose spike does nothing for others",
        posterior,
        "Use posterior 'HardConcrete'; or prior 'Normal', which is the slab alone.",
    )


def _of_one_draw(name: str) -> str:
    """The layer of that op whose estimator is reparameterization."""
    return name.replace("LocalReparameterization", "").replace("Flipout", "") + "Reparameterization"


def _refuse_missing_kl_weight(layer: VariationalLayer) -> None:
    raise invalid(
        f"kl_weight of layer {layer.name}",
        "a number, because a plain Keras model trains the layer and would leave the KL out of the loss",
        None,
        "Wrap the network: tfbnn.BayesianModel(network, likelihood), which scales the KL itself. Or pass "
        "kl_weight=1/N, N the number of training rows. Or pass kl_weight=0.0 and add layer.kl_divergence() yourself.",
    )


def divergence_config(where: str, fn: Callable | None) -> Any:
    """The JSON-able form of a `*_divergence_fn`, which must be registered with Keras to be found again."""
    return None if fn is None else serialize_function(where, fn)


def divergence_from_config(fn: Any) -> Callable | None:
    """Reads `divergence_config` back; a function passes through."""
    if fn is None or callable(fn):
        return fn
    return keras.saving.deserialize_keras_object(fn)


def check_divergence(where: str, fn: Any) -> Callable | None:
    """Returns `fn`; raises unless it is None or a function of (q, p) or (q, p, ignored)."""
    fn = divergence_from_config(fn)
    if fn is not None and not takes(fn, 2) and not takes(fn, 3):
        raise invalid(where, "a function of (q, p) that returns the divergence in nats, or None for the KL", fn)
    return fn
