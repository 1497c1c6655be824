"""The variables that the loop trains: those of one model, or of M models of one architecture on a stacked axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn.core.checks import invalid
from tfbnn.core.compilation import is_worth_compiling
from tfbnn.core.noise import Plan, Tape, fold_in
from tfbnn.core.positive import in_training_steps
from tfbnn.core.traversal import sublayers
from tfbnn.training.model import BayesianModel

# Optimizers that treat each number alone: on a stacked axis they do to each model what they do to it alone.
ELEMENTWISE = ("SGD", "Adam", "Adamax", "Adagrad", "Adadelta", "RMSprop", "Nadam", "Ftrl", "Lion")


class Stack:
    """M models as the loop trains them; the graph is traced once, by the first of them.

    One model is trained on its own variables by its own optimizer. Several are trained on stacked copies, [M, size]
    each, by one optimizer with their settings; `write_back` gives a model its part.

    Args:
        models: compiled and built, of one architecture (`tfbnn.training.many` sees to it).
    """

    def __init__(self, models: Sequence[BayesianModel]):
        self.models = list(models)
        self.size = len(self.models)
        self.lead = self.models[0]
        self.names: list[str] = []
        self._changed: list[int] = []
        self.rates: MemberRates | None = None
        if self.size == 1:
            self.parameters, self.state = self.lead.trainable_variables, state_of(self.lead)
            self.optimizer = self.lead.optimizer
        else:
            self.parameters = _stacked([model.trainable_variables for model in self.models], flat=True)
            self.state = _stacked([state_of(model) for model in self.models], flat=False)
            self.optimizer = self._optimizer_of_all()
        before = len(self.parameters) + len(self.state)
        counters = [i for i, variable in enumerate(self.optimizer.variables) if len(variable.shape) < 2]
        self._shared = {before + i for i in counters} if self.size > 1 else set()
        self._parts = _parts(self.models) if self.size > 1 else []
        copy = tf.function(lambda: [tf.identity(v.value) for v in self.variables], autograph=False)
        self._copied = copy.get_concrete_function()  # as it is: TensorFlow would warn of retracing from model to model
        self._all_finite = tf.function(self._find_finite, autograph=False).get_concrete_function()

    @property
    def steps_made(self) -> tf.Tensor:
        """Number of optimizer steps so far, int32 scalar."""
        return tf.cast(self.optimizer.variables[0].value, tf.int32)  # `iterations` may count accumulated ones as one

    @property
    def variables(self) -> list[keras.Variable]:
        """All that a step changes: parameters, state, and the optimizer's."""
        return [*self.parameters, *self.state, *self.optimizer.variables]

    def values_of(self, member: Any) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Parameters and state of model number `member`, as `scope` takes them."""
        pick = (lambda value: value[member]) if self.size > 1 else tf.convert_to_tensor
        return self._shaped([pick(v.value) for v in self.parameters]), [pick(v.value) for v in self.state]

    def _shaped(self, parameters: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """One model's parameters, which are flat where there are several models."""
        return [tf.reshape(p, v.shape) for p, v in zip(parameters, self.lead.trainable_variables, strict=True)]

    def each(self, function: Callable, *arguments: Any) -> Any:
        """`function` of each model's part of `arguments`, which have a leading axis of M where M > 1."""
        if self.size == 1:
            return function(*arguments)
        return tf.vectorized_map(lambda parts: function(*parts), arguments)

    def _find_finite(self) -> tf.Tensor:
        floats = [v.value for v in (*self.parameters, *self.state) if tf.as_dtype(v.dtype).is_floating]
        rows = [tf.reshape(value, [self.size, -1]) for value in floats]
        return tf.reduce_all([tf.reduce_all(tf.math.is_finite(row), axis=1) for row in rows], axis=0)

    # --- a step ------------------------------------------------------------------------------------------------------

    def plan(self, batch: dict[str, Any]) -> tuple[Plan, bool]:
        """What noise a step on `batch` (one model's, `tf.TensorSpec`s of static shape) asks for.

        Returns:
            The plan, and whether XLA should compile the step: not where it would draw numbers, which it does slowly
            on CPUs, be it that the plan leaves some to the step or that the network's own layers draw (Keras'
            Dropout), and not where it is slow at what the network computes.
        """
        plan = Plan(sublayers(self.lead), coupling=None)
        drawn: list[bool] = []

        def trace(batch):
            parameters, state = self.values_of(0)
            with self.scope(parameters, state) as scope:
                _, terms, loss = self.lead.objective(batch["x"], batch["y"], batch.get("w"), tf.constant(1.0), [plan])
            self.names = list(self.lead.reported(terms, loss))
            kept = zip(state_of(self.lead), state, strict=True)
            changed = [v.name for v, before in kept if scope.get_current_value(v) is not before]
            drawn.append("seed_generator_state" in changed)

        graph = tf.function(trace, autograph=False).get_concrete_function(batch).graph
        return plan, not (plan.follows_weights or drawn[0]) and is_worth_compiling(graph)

    def step(self, batch: dict[str, Any], noise: dict[Any, tf.Tensor], seed: tf.Tensor | None) -> tf.Tensor:
        """One step of every model on its batch.

        Args:
            batch: "x", "y", and "w" where rows have weights; with a leading axis of M where M > 1.
            noise: of the plan, [train_samples, ...], likewise.
            seed: int32 [2], for noise that is not in `noise` (M = 1 only); or None.

        Returns:
            What `BayesianModel.reported` tells, [R] or [M, R], in the order of `names`.
        """
        parameters = [tf.convert_to_tensor(variable.value) for variable in self.parameters]
        state = [tf.convert_to_tensor(variable.value) for variable in self.state]

        def gradients_of_one(parameters, state, beta, batch, noise):
            return self._gradients(parameters, state, beta, batch, noise, seed)

        gradients, changes, values = self.each(gradients_of_one, parameters, state, self._betas(), batch, noise)
        for index, value in zip(self._changed, changes, strict=True):
            variable = [*self.parameters, *self.state][index]
            variable.assign(tf.reshape(value, variable.shape))
        self.optimizer.apply(gradients, self.parameters)
        return values

    def _gradients(self, parameters: list, state: list, beta: Any, batch: dict, noise: dict, seed: Any) -> tuple:
        """One model's gradients, what its layers changed of parameters and state, and the values to report.

        Gradients are at what layers made of the weights while they were called, as in Keras (SpectralNormalization).
        """
        passes = [self._source(noise, seed, s) for s in range(self.lead.train_samples)]
        before = [*self._shaped(parameters), *state]
        with tf.GradientTape() as tape:  # inside `each`: XLA compiles gradients through a vectorized map anew each time
            tape.watch(before[: len(parameters)])
            with in_training_steps(), self.scope(before[: len(parameters)], state) as scope:
                _, terms, loss = self.lead.objective(batch["x"], batch["y"], batch.get("w"), beta, passes)
            scaled = self.optimizer.scale_loss(loss)
        after = [scope.get_current_value(v) for v in (*self.lead.trainable_variables, *state_of(self.lead))]
        slopes = tape.gradient(scaled, after[: len(parameters)], unconnected_gradients=tf.UnconnectedGradients.ZERO)
        gradients = [tf.reshape(slope, p.shape) for slope, p in zip(slopes, parameters, strict=True)]
        self._changed = [i for i, (old, new) in enumerate(zip(before, after, strict=True)) if new is not old]
        changes = [after[i] for i in self._changed]
        return self._clipped(gradients), changes, tf.stack(list(self.lead.reported(terms, loss).values()))

    def _source(self, noise: dict, seed: tf.Tensor | None, s: int) -> Tape:
        """The noise of draw s of a step."""
        values = {key: draws[s] for key, draws in noise.items()}
        return Tape(values, sublayers(self.lead), seed=None if seed is None else fold_in(seed, s))

    def scope(self, parameters: Sequence[tf.Tensor], state: Sequence[tf.Tensor]) -> keras.StatelessScope:
        """In it, the first model computes with one model's `parameters` and `state`."""
        trained = zip(self.lead.trainable_variables, parameters, strict=True)
        return keras.StatelessScope([*trained, *zip(state_of(self.lead), state, strict=True)], collect_losses=True)

    def _betas(self) -> tf.Tensor:
        step = tf.convert_to_tensor(self.optimizer.iterations)
        return self.lead.beta(step) if self.size == 1 else _each_once([model.beta for model in self.models], step)

    def _clipped(self, gradients: list[tf.Tensor]) -> list[tf.Tensor]:
        """Gradients of one model of several, clipped as its optimizer would; that of one model does it itself."""
        own = self.lead.optimizer
        if self.size == 1:
            return gradients
        if own.clipnorm:
            return [tf.clip_by_norm(gradient, own.clipnorm) for gradient in gradients]
        return tf.clip_by_global_norm(gradients, own.global_clipnorm)[0] if own.global_clipnorm else gradients

    # --- several models ----------------------------------------------------------------------------------------------

    def _optimizer_of_all(self) -> keras.optimizers.Optimizer:
        """One optimizer with the state of all, on stacked variables; each model keeps its own learning rate."""
        optimizers = [model.optimizer for model in self.models]
        self.rates = MemberRates(optimizers)
        config = {**optimizers[0].get_config(), "clipnorm": None, "global_clipnorm": None, "learning_rate": self.rates}
        stacked = type(optimizers[0])(**config)
        stacked.build(self.parameters)
        for variable, parts in zip(stacked.variables, _optimizer_parts(self.models), strict=True):
            values = [part.numpy() for part in parts]
            if len(variable.shape) < 2:  # a counter that all share
                _refuse_different_counters(values)
                variable.assign(values[0])
            else:
                variable.assign(np.stack([value.reshape(-1) for value in values]))
        return stacked

    def read_rates(self) -> None:
        """Takes the learning rates that callbacks may have set."""
        if self.rates is not None:
            self.rates.read()

    def copy(self) -> list[tf.Tensor]:
        """The present values of `variables`."""
        return self._copied()

    def finite(self) -> np.ndarray:
        """Whether all numbers of each model are finite: [M]."""
        return self._all_finite().numpy()

    def write_back(self, members: Sequence[int], values: Sequence[tf.Tensor] | None = None) -> None:
        """Gives models number `members` their parts of `values`, those of `variables`; None: the present ones.

        One model trains on its own variables, so that its present values are there already.
        """
        if self.size == 1:
            for variable, value in zip(self.variables, values or (), strict=bool(values)):
                variable.assign(value)
            return
        values = self.copy() if values is None else values
        for number, (value, parts) in enumerate(zip(values, self._parts, strict=True)):
            array = value.numpy()
            shared = number in self._shared
            for m in members:
                parts[m].assign(array if shared else array[m].reshape(parts[m].shape))


class MemberRates(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate of each model, [M, 1], as its own optimizer has it: a number or a schedule.

    Args:
        optimizers: of the M models.
    """

    def __init__(self, optimizers: Sequence[keras.optimizers.Optimizer]):
        self._optimizers = list(optimizers)
        self._schedules = _equal_shared([_schedule(optimizer) for optimizer in optimizers])
        self._numbers = tf.Variable(tf.zeros([len(self._optimizers)]), trainable=False)
        self.read()

    def read(self) -> None:
        """Takes the numbers that the optimizers have now."""
        pairs = zip(self._optimizers, self._schedules, strict=True)
        self._numbers.assign([0.0 if schedule else float(optimizer.learning_rate) for optimizer, schedule in pairs])

    def __call__(self, step):
        scheduled = _each_once([schedule or (lambda step: 0.0) for schedule in self._schedules], step)
        has_schedule = tf.constant([schedule is not None for schedule in self._schedules])
        return tf.where(has_schedule, scheduled, self._numbers)[:, tf.newaxis]


def _schedule(optimizer: keras.optimizers.Optimizer) -> Any:
    rate = optimizer._learning_rate  # the property `learning_rate` tells a schedule's present number
    return rate if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule) else None


def _equal_shared(schedules: Sequence[Any]) -> list[Any]:
    """The schedules, those of one config as one object."""
    first: dict[str, Any] = {}
    named = [(repr((type(s).__name__, s.get_config() if s else None)), s) for s in schedules]
    return [first.setdefault(described, schedule) for described, schedule in named]


def _each_once(schedules: Sequence[Callable], step: Any) -> tf.Tensor:
    """schedule(step) of each, float32 [M]; equal schedules are computed once."""
    different = list(dict.fromkeys(schedules))
    values = tf.stack([tf.cast(schedule(step), tf.float32) for schedule in different])
    return tf.gather(values, [different.index(schedule) for schedule in schedules])


def _parts(models: Sequence[BayesianModel]) -> list[tuple[keras.Variable, ...]]:
    """Each model's own variables, in the order of a stack's."""
    own = [[*model.trainable_variables, *state_of(model)] for model in models]
    return [*zip(*own, strict=True), *_optimizer_parts(models)]


def _optimizer_parts(models: Sequence[BayesianModel]) -> list[tuple[keras.Variable, ...]]:
    """The models' own optimizer variables but the learning rate, in the order of the stacked optimizer's."""
    return list(zip(*(_without_rate(model.optimizer) for model in models), strict=True))


def _without_rate(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    rate = optimizer.learning_rate  # a schedule is computed whenever it is asked for
    return [variable for variable in optimizer.variables if variable is not rate]


def state_of(model: BayesianModel) -> list[keras.Variable]:
    """What a model holds beside what is trained: fixed numbers, running statistics, states of generators."""
    not_state = {id(variable) for variable in model.metrics_variables}
    return [variable for variable in model.non_trainable_variables if id(variable) not in not_state]


def _stacked(variables: Sequence[Sequence[keras.Variable]], flat: bool) -> list[keras.Variable]:
    """[M lists of variables] -> one list of variables [M, ...], or [M, size] where `flat`."""
    return [
        keras.Variable(
            np.stack([part.numpy().reshape(-1) if flat else part.numpy() for part in parts]),
            dtype=parts[0].dtype, trainable=flat, name=parts[0].name,
        )
        for parts in zip(*variables, strict=True)
    ]  # fmt: skip


def _refuse_different_counters(values: Sequence[np.ndarray]) -> None:
    if any(value != values[0] for value in values):
        raise invalid(
            "models",
            "models whose optimizers have made the same number of steps",
            [int(value) for value in values],
            "Train them together from the start, or each alone by tfbnn.train.",
        )


def bits_for_stack(plan: Plan, seeds: Sequence[tf.Tensor], steps: int, samples: int) -> dict[Any, tf.Tensor]:
    """Bits of the noise of `steps` steps for each [2] seed: [steps, samples, ...], or [steps, M, samples, ...]."""

    def of_one(seed: tf.Tensor) -> dict[Any, tf.Tensor]:
        flat = plan.bits(seed, steps * samples)
        return {key: tf.reshape(bits, [steps, samples, *bits.shape[1:]]) for key, bits in flat.items()}

    each = [of_one(seed) for seed in seeds]
    return each[0] if len(each) == 1 else {key: tf.stack([bits[key] for bits in each], axis=1) for key in each[0]}
