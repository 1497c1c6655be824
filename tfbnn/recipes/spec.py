"""The schema of recipes: every key, its type and its default; unknown keys are refused."""

from __future__ import annotations

import math
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import keras
import pydantic
import tensorflow as tf
import yaml

from tfbnn import calibration, likelihoods
from tfbnn.core.checks import InvalidInput, invalid, nearest, one_of, positive_number
from tfbnn.inference.base import Inference
from tfbnn.objectives import schedules
from tfbnn.recipes import builders
from tfbnn.recipes.method import method_of, options_of
from tfbnn.recipes.named import as_number, check_named


class _Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)

    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _no_truth_value(cls, value: Any, info: pydantic.ValidationInfo) -> Any:
        wanted = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and wanted is not bool:  # which would pass for the numbers 0 and 1
            raise invalid(str(info.field_name), "no truth value (true, false, yes, no, on, off)", value)
        return value


class DataSpec(_Section):
    """Which table, which target.

    Attributes:
        source: path of a CSV file or, NAME.parquet, of a Parquet file (relative paths begin at the working
            directory), or `sklearn:NAME`.
        target: name of the column to predict.
        exclude: columns that are left out.
        columns: name -> "numeric", "categorical" or "boolean", where the guess from the values is wrong.
        scaling: numeric and boolean columns are standardised "each" by itself, constant ones left out; "together", by
            one mean and stddev, as columns of one quantity are (pixels of an image, steps of a series), constant ones
            too, which keep the others in their places; or "none", the same in the units of the table.
        test_fraction: share of the rows that is held out, scored and written beside the model.
    """

    source: str
    target: str
    exclude: list[str] = []
    columns: dict[str, Literal["numeric", "categorical", "boolean"]] = {}
    scaling: Literal["each", "together", "none"] = "each"
    test_fraction: float = pydantic.Field(default=0.2, gt=0, lt=1)


class TrainingSpec(_Section):
    """How the ELBO is maximised (Adam).

    Attributes:
        epochs, batch_size: as in Keras.
        learning_rate: a number, or a mapping with `class` (of `keras.optimizers.schedules`, for example CosineDecay)
            and arguments.
        train_samples: draws of the weights a step.
        beta: weight of the KL: a number, or a mapping with `class` (Blundell, Constant, Cyclical, Linear, Sigmoid) and
            arguments; their steps are the optimizer's, one a batch.
        clipnorm: largest norm of a gradient; none: not clipped.
        validation_fraction: share of the training rows that `val_log_likelihood` is measured on.
        patience: epochs without a better `val_log_likelihood` after which training stops with the best weights.
        checkpoint_every: epochs between checkpoints, from which `tfbnn train --resume` goes on.
    """

    epochs: pydantic.PositiveInt = 200
    batch_size: pydantic.PositiveInt = 32
    learning_rate: Any = 0.01
    train_samples: pydantic.PositiveInt = 1
    beta: Any = 1.0
    clipnorm: pydantic.PositiveFloat | None = None
    validation_fraction: float = pydantic.Field(default=0.0, ge=0, lt=1)
    patience: pydantic.PositiveInt | None = None
    checkpoint_every: pydantic.PositiveInt = 10

    def rate(self) -> Any:
        """The learning rate as an optimizer takes it."""
        return learning_rate_of(self.learning_rate)

    @pydantic.field_validator("learning_rate")
    @classmethod
    def _known_learning_rate(cls, identifier: Any) -> Any:
        number = as_number(identifier)
        if number is not None:
            return positive_number("learning_rate", number)
        learning_rate_of(identifier)
        return identifier

    @pydantic.field_validator("beta")
    @classmethod
    def _known_beta(cls, identifier: Any) -> Any:
        number = as_number(identifier)
        if number is None:
            return check_named("beta", identifier, schedules.get)
        try:
            schedules.get(number)
        except InvalidInput as error:
            raise error.at("beta") from None
        return number

    @pydantic.model_validator(mode="after")
    def _patience_needs_validation(self) -> TrainingSpec:
        if self.patience is not None and not self.validation_fraction:
            mend = "Set training.validation_fraction, for example 0.1."
            raise invalid("patience", "none, because there are no validation rows to watch", self.patience, mend)
        return self


class PredictionSpec(_Section):
    """What the exported model answers with.

    Attributes:
        num_samples: S, draws of the weights averaged over, 100,000 at most.
        level: share of the probability between `lower` and `upper`.
    """

    num_samples: int = pydantic.Field(default=100, gt=0, le=100_000)
    level: float = pydantic.Field(default=0.9, gt=0, lt=1)


class CalibrationSpec(_Section):
    """What is fitted after training, on rows kept for it.

    Attributes:
        fraction: share of the rows that are not held out; they are not trained on.
        recalibration: TemperatureScaling of classes, ScaleCalibration of numbers; none: as trained.
        conformal: LAC or APS, sets of classes; StandardisedResidual or ConformalizedQuantiles, intervals; all of
            `prediction.level`; none: no such outputs.
    """

    fraction: float = pydantic.Field(default=0.0, ge=0, lt=1)
    recalibration: str | None = None
    conformal: str | None = None

    def recalibration_step(self) -> calibration.Recalibration | None:
        """Not fitted yet."""
        return None if self.recalibration is None else calibration.RECALIBRATIONS[self.recalibration]()

    def conformal_step(self, level: float) -> calibration.Conformal | None:
        """Not fitted yet."""
        return None if self.conformal is None else calibration.CONFORMAL[self.conformal](level)

    @pydantic.field_validator("recalibration", "conformal")
    @classmethod
    def _known_step(cls, name: str | None, info: pydantic.ValidationInfo) -> str | None:
        known = calibration.RECALIBRATIONS if info.field_name == "recalibration" else calibration.CONFORMAL
        return name if name is None else one_of(str(info.field_name), name, known)

    @pydantic.model_validator(mode="after")
    def _rows_to_fit_on(self) -> CalibrationSpec:
        if (self.recalibration or self.conformal) and not self.fraction:
            raise invalid("fraction", "a share of the rows above 0, to calibrate on", self.fraction)
        return self


class DecisionSpec(_Section):
    """Which rows the exported model abstains from: one of refer_share, refer_risk, threshold and costs, or none.

    Attributes:
        by: uncertainty of a row: predictive_entropy, mutual_information, expected_entropy or error_probability of
            classes; stddev, epistemic_stddev or aleatoric_stddev of numbers; none: error_probability or stddev.
        refer_share: about that share of the rows, the least certain, is referred.
        refer_risk: wanted error rate of the rows that are not, which holds with `confidence`; of classes.
        threshold: the uncertainty above which a row is referred, in the units of `by`; above 0.
        costs: action -> class -> cost; the action of least expected cost is told.
        refer_cost: of a referral, which happens where every action is expected to cost more.
    """

    by: str | None = None
    refer_share: float | None = pydantic.Field(default=None, gt=0, lt=1)
    refer_risk: float | None = pydantic.Field(default=None, gt=0, lt=1)
    confidence: float = pydantic.Field(default=0.9, gt=0, lt=1)
    threshold: float | None = None
    costs: dict[str, dict[str, float]] | None = None
    refer_cost: float | None = None

    @pydantic.field_validator("costs", mode="before")
    @classmethod
    def _of_each_class(cls, costs: Any) -> Any:
        if costs is not None:
            actions = costs.values() if isinstance(costs, Mapping) else [costs]
            if wrong := [action for action in actions if not isinstance(action, Mapping)]:
                expected = "action -> class -> cost, as {grant: {'1': 0, '2': 5}, refuse: {'1': 1, '2': 0}}"
                raise invalid("costs", expected, wrong[0], "Every class of the target needs its cost.")
        return costs

    @pydantic.field_validator("threshold")
    @classmethod
    def _keeps_some_rows(cls, threshold: float | None) -> float | None:
        if threshold is not None and threshold <= 0:
            raise invalid(
                "threshold", "a number above 0", threshold, "Every row is less certain: all would be referred."
            )
        return threshold

    @property
    def needs_rows(self) -> bool:
        """Whether its threshold is found on calibration rows."""
        return self.refer_share is not None or self.refer_risk is not None

    @pydantic.model_validator(mode="after")
    def _one_way(self) -> DecisionSpec:
        ways = ("refer_share", "refer_risk", "threshold", "costs")
        given = [way for way in ways if getattr(self, way) is not None]
        if len(given) > 1:
            raise invalid(given[1], f"one of {', '.join(ways)}", f"{' and '.join(given)}")
        if (self.costs is None) != (self.refer_cost is None):
            missing, other = ("refer_cost", "costs") if self.refer_cost is None else ("costs", "refer_cost")
            raise invalid(missing, f"given too, because {other} is", None)
        if self.by is not None and (self.costs is not None or not given):
            raise invalid("by", "none: it goes with refer_share, refer_risk or threshold", self.by)
        if self.threshold is not None and self.by is None:
            raise invalid("by", "the uncertainty that the threshold is of", None)
        return self


class ExportSpec(_Section):
    """Where the SavedModel goes.

    Attributes:
        path: NAME, which takes the next version below it, or NAME/VERSION, which must not exist; none:
            saved_models/ and the recipe's name.
        report: whether `tfbnn train` writes report.html and model_card.md into the version.
    """

    path: str | None = None
    report: bool = True


class Recipe(_Section):
    """A whole application: data -> network -> training -> scores -> SavedModel.

    Attributes:
        name: of the application.
        description: one line, shown by `tfbnn recipes`.
        seed: of the split, the initial weights, the noise and the predictions.
        data, model, likelihood, training, prediction, calibration, decision, export: see the classes; `model` holds
            `builder` and its keys.
        inference: `method`, a class of `tfbnn.inference` (VariationalInference unless told), and its own arguments.

    Example:
        >>> recipe = tfbnn.Recipe.from_yaml("recipes/diabetes.yaml")
        >>> result = tfbnn.run_recipe(recipe)
    """

    name: str
    description: str = ""
    seed: int = pydantic.Field(default=0, ge=0, lt=2**31)
    data: DataSpec
    model: dict[str, Any] = {}
    likelihood: Any
    inference: dict[str, Any] = {}
    training: TrainingSpec = TrainingSpec()
    prediction: PredictionSpec = PredictionSpec()
    calibration: CalibrationSpec = CalibrationSpec()
    decision: DecisionSpec = DecisionSpec()
    export: ExportSpec = ExportSpec()

    _folder: Path = pydantic.PrivateAttr(Path())
    _allow_imports: bool = pydantic.PrivateAttr(False)

    @pydantic.field_validator("likelihood")
    @classmethod
    def _known_likelihood(cls, identifier: Any) -> Any:
        return check_named("likelihood", identifier, lambda named: likelihood_for(named, num_classes=2))

    @pydantic.model_validator(mode="after")
    def _decision_has_rows(self) -> Recipe:
        if self.decision.needs_rows and not self.calibration.fraction:
            mend = "decision.refer_share and refer_risk are found on these rows."
            raise invalid("calibration.fraction", "a share of the rows above 0", self.calibration.fraction, mend)
        return self

    @pydantic.field_validator("name")
    @classmethod
    def _name_of_a_folder(cls, name: str) -> str:
        if not name.strip(".") or set(name) & set("/\\") or name.isdecimal():
            raise invalid("name", "a name for a folder below saved_models/: no slash, and more than digits", name)
        return name

    @classmethod
    def from_yaml(cls, path: Any, overrides: Iterable[str] = (), allow_imports: bool = False) -> Recipe:
        """Reads a recipe.

        Args:
            path: of the YAML file; its name is the recipe's unless it has one.
            overrides: settings as "training.epochs=50", which win over the file's.
            allow_imports: whether `model.builder` may name Python code.

        Raises:
            InvalidInput: for a missing file, unknown keys, wrong values; it names the path in the recipe.
        """
        path = Path(path)
        content = {"name": path.stem, **_read_yaml(path)}
        for override in overrides:
            _override(content, override)
        return cls.from_dict(content, allow_imports, path.parent)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], allow_imports: bool = False, folder: Any = ".") -> Recipe:
        """The recipe of a mapping as YAML holds it; raises as `from_yaml` does."""
        recipe = _validated(cls, content, ())
        recipe._folder, recipe._allow_imports = Path(folder), allow_imports
        recipe.model = recipe._resolved_model()
        recipe.inference = recipe._resolved_inference()
        return recipe

    @property
    def builder(self) -> builders.Builder:
        """How the network is built."""
        return builders.find(self.model.get("builder", "mlp"), self._allow_imports, self._folder)

    def network(self, num_features: int, num_outputs: int) -> Any:
        """The network [B, num_features] -> [B, num_outputs] that the builder makes.

        Raises:
            InvalidInput: where the builder fails, or gives something else.
        """
        return builders.network(self.builder, self.builder_options, num_features, num_outputs, self.seed)

    @property
    def builder_options(self) -> Any:
        """The keys of `model` beside `builder`, checked where the builder says what it takes."""
        given = {key: value for key, value in self.model.items() if key != "builder"}
        options = self.builder.options
        return given if options is None else _validated(options, given, ("model",))

    def _resolved_model(self) -> dict[str, Any]:
        options = self.builder_options
        given = options if isinstance(options, dict) else options.model_dump(mode="json")
        return {"builder": self.model.get("builder", "mlp"), **given}

    @property
    def method(self) -> type[Inference]:
        """The way to the posterior."""
        return method_of(self.inference)

    @property
    def method_options(self) -> dict[str, Any]:
        """The method's own arguments."""
        return {key: value for key, value in self.inference.items() if key != "method"}

    def _resolved_inference(self) -> dict[str, Any]:
        try:
            method = self.method
        except InvalidInput as error:
            raise error.under("inference") from None
        options = _validated(options_of(method), self.method_options, ("inference",))
        return {"method": method.__name__, **options.model_dump(mode="json")}

    def resolved(self) -> dict[str, Any]:
        """Every key with its value, defaults filled in; JSON-able."""
        return self.model_dump(mode="json")


def learning_rate_of(identifier: Any) -> Any:
    """A number, or the schedule of Keras that a mapping with `class` and arguments names."""
    if isinstance(identifier, int | float):
        return identifier
    schedules = keras.optimizers.schedules
    known = [name for name in dir(schedules) if name[0].isupper() and name != "LearningRateSchedule"]
    if not isinstance(identifier, Mapping) or "class" not in identifier:
        expected = f"a number above 0, or a mapping with `class` ({', '.join(known)}) and arguments"
        raise invalid("learning_rate", expected, identifier)
    of_kind = getattr(schedules, one_of("learning_rate.class", identifier["class"], known))
    arguments = {key: _number_or_same(value) for key, value in identifier.items() if key != "class"}
    try:
        schedule = of_kind(**arguments)
        first = float(schedule(0))
    except (TypeError, ValueError, tf.errors.OpError) as error:
        mend = f"{' '.join(str(error).split()).rstrip('.')}."
        raise invalid("learning_rate", f"the arguments of {identifier['class']}", arguments, mend) from None
    if not 0 <= first < math.inf:
        raise invalid("learning_rate", f"a {identifier['class']} that begins at 0 or more", first)
    return schedule


def _number_or_same(value: Any) -> Any:
    number = as_number(value) if isinstance(value, str) else None
    return value if number is None else number


def likelihood_for(identifier: Any, num_classes: int | None) -> likelihoods.Likelihood:
    """The likelihood that a recipe names; `Categorical` is told the number of classes of the data."""
    named = {"class": identifier} if isinstance(identifier, str) else identifier
    if isinstance(named, Mapping) and named.get("class") == "Categorical":
        named = {"num_classes": num_classes, **named}
    found = likelihoods.get(named)
    if found is None:
        raise invalid("likelihood", "a likelihood", None)
    return found


# --- reading ----------------------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping, of which YAML would silently keep the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for place, key in enumerate(keys):
            if key in keys[:place]:
                raise yaml.constructor.ConstructorError(None, None, f"the key '{key}' stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        mend = "`tfbnn recipes` lists those in the folder recipes/."
        raise invalid("recipe", "a YAML file", str(path), mend)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise invalid("recipe", "YAML that can be read", str(path), " ".join(str(error).split()) + ".") from None
    if not isinstance(content, dict):
        raise invalid("recipe", "a mapping of sections (data, model, training, ...)", content)
    return content


def _override(content: dict[str, Any], override: str) -> None:
    path, equals, value = override.partition("=")
    *sections, key = path.strip().split(".")
    if not equals or not all((*sections, key)):
        raise invalid("--set", "SECTION.KEY=VALUE, for example training.epochs=50", override)
    for section in sections:
        content = content.setdefault(section, {})
        if not isinstance(content, dict):
            raise invalid("--set", f"a path through sections; `{section}` holds a value", override)
    try:
        content[key] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise invalid("--set", "a value in YAML", override) from None


# --- errors in the recipe's own words ---------------------------------------------------------------------------------


def _validated(model: type[pydantic.BaseModel], content: Mapping[str, Any], under: tuple[str, ...]) -> Any:
    try:
        return model.model_validate(dict(content))
    except pydantic.ValidationError as error:
        raise _in_words(model, error.errors()[0], under) from None


def _in_words(model: type[pydantic.BaseModel], error: Mapping[str, Any], under: tuple[str, ...]) -> InvalidInput:
    location = [str(part) for part in error["loc"] if not str(part).startswith(("list[", "literal[", "[key]"))]
    path = ".".join([*under, *location])
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, InvalidInput):
        return _told_from(cause, [*under, *location])
    if error["type"] == "extra_forbidden":
        return _unknown_key(_section(model, error["loc"][:-1]), path, location[-1])
    if error["type"] == "missing":
        return invalid(path, "a value, because it has no default", "nothing", f"Add {path}: ... to the recipe.")
    if error["type"] in ("model_type", "dict_type"):
        return invalid(path, "a mapping (key: value)", error["input"])
    if error["type"] == "invalid_key" or "[key]" in error["loc"]:
        return invalid(path, "a key that is text", error["input"], "Write it in quotes.")
    return invalid(path, _expected(error["msg"]), error["input"])


def _expected(message: str) -> str:
    """What pydantic says, as the rest of a sentence that begins with "Expected"."""
    message = message.removeprefix("Input should be ")
    return f"a number {message}" if message.startswith(("greater", "less")) else message[0].lower() + message[1:]


def _told_from(cause: InvalidInput, path: list[str]) -> InvalidInput:
    """The key's own name stands in `cause.where` already: `prior.scale` found at model.prior is model.prior.scale."""
    if path and cause.where and cause.where.split(".")[0] == path[-1]:
        path = path[:-1]
    return cause.under(".".join(path)) if path else cause


def _unknown_key(section: type[pydantic.BaseModel], path: str, key: str) -> InvalidInput:
    known = ", ".join(section.model_fields)
    close = nearest(key, section.model_fields)
    mend = f"Did you mean '{close}'?" if close else ""
    return InvalidInput(f"Unknown key `{path}` in the recipe. Known here: {known}. {mend}".rstrip())


def _section(model: type[pydantic.BaseModel], location: Iterable[Any]) -> type[pydantic.BaseModel]:
    for part in location:
        annotation = typing.get_type_hints(model).get(str(part))
        if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
            model = annotation
    return model
