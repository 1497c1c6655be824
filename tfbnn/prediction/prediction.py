"""The result of predicting: a distribution for each row, and what can be asked of it."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfbnn.core.checks import InvalidInput, invalid, positive_integer
from tfbnn.core.noise import check_seed, seed_pair
from tfbnn.likelihoods import Likelihood
from tfbnn.prediction import decompose, mixture, summary

OF_EACH_CLASS = {"probabilities": "probability", "prediction_set": "in_set", "mc_error": "mc_error"}
NEAREST_LEVEL = 1e-6  # to 0 and 1: the levels of an interval's quantiles are float32, of steps 6e-8 below 1


class Prediction:
    """The predictive distribution (1/S) sum_s p(y|f_s) of B rows, held as the parameters of its S components.

    Args:
        parameters: float32 [S, B, P'], the likelihood's complete parameters.
        likelihood: what they are parameters of.
        metadata: what the method tells of its draws, such as whether its chains have converged.

    Example:
        >>> prediction = model.predict_distribution(x)
        >>> prediction.mean, prediction.epistemic_stddev      # [B, 1] each, in units of y
        >>> lower, upper = prediction.interval(0.9)
    """

    def __init__(self, parameters: Any, likelihood: Likelihood, metadata: Mapping[str, Any] | None = None):
        self.parameters = np.asarray(parameters, np.float32)
        self.likelihood = likelihood
        self.metadata = dict(metadata or {})

    @classmethod
    def mixture_of(cls, predictions: Sequence[Prediction]) -> Prediction:
        """The equal mixture of predictions of the same rows, such as those of an ensemble's members.

        Args:
            predictions: of models with equal likelihoods, each of the same number of draws.

        Raises:
            InvalidInput: where rows, draws or kinds of likelihood differ.

        Example:
            >>> models = [make(seed) for seed in range(5)]
            >>> tfbnn.train_many(models, (x, y), epochs=300)
            >>> prediction = Prediction.mixture_of([model.predict_distribution(x_test) for model in models])
        """
        kinds = {(type(one.likelihood).__name__, one.parameters.shape) for one in predictions}
        if len(kinds) != 1:
            expected = "predictions of the same rows, draws and likelihood"
            raise invalid("predictions", expected, sorted(kinds))
        told = [one.metadata for one in predictions]
        metadata = {"members": told} if any(told) else None
        return cls(np.concatenate([one.parameters for one in predictions]), predictions[0].likelihood, metadata)

    def __repr__(self) -> str:
        return f"<Prediction of {self.num_rows} rows by {self.num_samples} draws, {type(self.likelihood).__name__}>"

    @property
    def num_samples(self) -> int:
        """S, number of draws."""
        return self.parameters.shape[0]

    @property
    def num_rows(self) -> int:
        """B, number of rows."""
        return self.parameters.shape[1]

    # --- moments, [B, T] in units of y ---------------------------------------------------------------------------

    @property
    def mean(self) -> np.ndarray:
        """E[y]: [B, T]; two classes: P(y = 1), [B, 1]; K classes: [B, K]."""
        return self._moments.mean.numpy()

    @property
    def variance(self) -> np.ndarray:
        """Var[y] = aleatoric + epistemic variance, of the shape of `mean`."""
        return self._moments.variance.numpy()

    @property
    def stddev(self) -> np.ndarray:
        """Standard deviation of y."""
        return np.sqrt(self.variance)

    @property
    def aleatoric_stddev(self) -> np.ndarray:
        """sqrt(E_w Var[y|w]): noise, which more data would not remove."""
        return np.sqrt(self._moments.aleatoric_variance.numpy())

    @property
    def epistemic_stddev(self) -> np.ndarray:
        """sqrt(Var_w E[y|w]): from not knowing the weights, which more data would remove."""
        return np.sqrt(self._moments.epistemic_variance.numpy())

    @property
    def mc_error(self) -> np.ndarray:
        """Standard error of `mean` for having S draws and no more, of its shape; NaN of fewer than two.

        Of antithetic draws it is that of the means over pairs. Of Sobol's points it is what independent draws would
        have, which is more than theirs.
        """
        return decompose.mc_error(self.likelihood.mean(self.parameters), self._sequence).numpy()

    @property
    def _sequence(self) -> str:
        return self.metadata.get("sequence", "independent")

    @property
    def _moments(self) -> decompose.Moments:
        return decompose.moments(self.likelihood, self.parameters)

    # --- the distribution ----------------------------------------------------------------------------------------

    @property
    def distribution(self) -> Any:
        """The mixture as a `tfd` distribution over y [T], batch shape [B]."""
        return mixture.distribution(self.likelihood, self.parameters)

    def log_prob(self, y: Any) -> np.ndarray:
        """log p(y) of the mixture, nats a row: y [B] or [B, T] -> [B]."""
        return mixture.log_prob(self.likelihood, self.parameters, self._targets(y)).numpy()

    def sample(self, n: int, seed: int = 0) -> np.ndarray:
        """n draws of y a row, [n, B, T]; the same for the same seed."""
        n, seed = positive_integer("n", n), check_seed("seed", seed)
        return self.distribution.sample(n, seed=seed_pair(seed)).numpy()

    def cdf(self, y: Any) -> np.ndarray:
        """P(Y <= y), y [B] or [B, T] -> [B, T]; regression only."""
        self._refuse_classes("cdf")
        return mixture.cdf(self.likelihood, self.parameters, self._targets(y)).numpy()

    def quantile(self, q: Any) -> np.ndarray:
        """y with P(Y <= y) = q: [B, T] for a number, [Q, B, T] for Q of them.

        Where several have it, in a gap between draws, one of them. Of counts: the smallest with P(Y <= y) >= q.
        """
        self._refuse_classes("quantile")
        levels = np.asarray(q, np.float32)
        if not ((levels > 0) & (levels < 1)).all():
            raise invalid("q", "probabilities between 0 and 1, both excluded", q)
        quantiles = mixture.quantile(self.likelihood, self.parameters, levels.reshape(-1)).numpy()
        return quantiles.reshape(*levels.shape, *quantiles.shape[1:])

    def interval(self, level: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
        """The central interval that holds y with probability `level` (counts: or more): (lower, upper), each [B, T]."""
        level = check_level(level)
        lower, upper = self.quantile([0.5 - level / 2, 0.5 + level / 2])
        return lower, upper

    # --- classes -------------------------------------------------------------------------------------------------

    @property
    def probabilities(self) -> np.ndarray:
        """P(y = k), [B, K]."""
        self._refuse_regression("probabilities")
        return decompose.class_probabilities(self.likelihood, self.parameters).numpy()

    @property
    def predictive_entropy(self) -> np.ndarray:
        """H[y], total uncertainty, [B], nats."""
        return self._entropies.predictive_entropy.numpy()

    @property
    def expected_entropy(self) -> np.ndarray:
        """E_w H[y|w], the aleatoric part, [B], nats."""
        return self._entropies.expected_entropy.numpy()

    @property
    def mutual_information(self) -> np.ndarray:
        """I[y; w], the epistemic part, [B], nats."""
        return self._entropies.mutual_information.numpy()

    @property
    def _entropies(self) -> decompose.Entropies:
        self._refuse_regression("entropies")
        return decompose.entropies(self.likelihood, self.parameters)

    # --- tables --------------------------------------------------------------------------------------------------

    def to_frame(self, level: float = 0.9) -> Any:
        """A pandas DataFrame, a row a row: mean, standard deviations and interval; or probabilities and entropies."""
        import pandas as pd  # not needed to predict

        check_level(level)
        named = summary.outputs(self.likelihood, self.parameters, level, self._sequence)
        return pd.DataFrame(columns({name: tensor.numpy() for name, tensor in named.items()}))

    def check_rows(self, y: Any) -> np.ndarray:
        """Returns y as an array; raises where it has another number of rows, or values that the likelihood has not."""
        y = np.asarray(y)
        if not y.ndim or len(y) != self.num_rows:
            raise self._other_rows(y.shape)
        self.likelihood.check_target("y", y)
        return y

    def _targets(self, y: Any) -> Any:
        """y [B, T]; raises where it has another number of rows."""
        y = self.likelihood.match_target(y)
        if y.shape[0] != self.num_rows:
            raise self._other_rows(y.shape)
        return y

    def _other_rows(self, shape: Any) -> InvalidInput:
        received = f"{shape[0]} rows" if len(shape) else "one number"
        return invalid("y", f"{self.num_rows} rows, as were predicted", received)

    def _refuse_classes(self, what: str) -> None:
        if self.likelihood.is_classifier:
            raise invalid(what, "a regression", type(self.likelihood).__name__, "Classes have `probabilities`.")

    def _refuse_regression(self, what: str) -> None:
        if not self.likelihood.is_classifier:
            raise invalid(what, "classes", type(self.likelihood).__name__, "A regression has `mean` and `stddev`.")


def check_level(level: float) -> float:
    """Returns `level`; raises unless it is between 0 and 1, and so far from both that float32 tells its quantiles."""
    is_number = isinstance(level, numbers.Real) and not isinstance(level, bool)
    if not is_number or not NEAREST_LEVEL <= level <= 1.0 - NEAREST_LEVEL:
        raise invalid("level", f"a share between 0 and 1, {NEAREST_LEVEL:g} or more away from both", level)
    return float(level)


def columns(named: dict[str, np.ndarray], labels: Any = None) -> dict[str, np.ndarray]:
    """Named outputs as flat columns: [B, 1] -> one, [B, T] -> `name_0`, ..., `probability_LABEL`, `in_set_LABEL`."""
    flat: dict[str, np.ndarray] = {}
    for name, values in named.items():
        if values.ndim == 1:
            flat[name] = values
        elif values.shape[1] == 1:
            flat[name] = values[:, 0]
        else:
            prefix = OF_EACH_CLASS.get(name, name)
            endings = labels if labels is not None and name in OF_EACH_CLASS else range(values.shape[1])
            flat.update({f"{prefix}_{ending}": values[:, k] for k, ending in enumerate(endings)})
    return flat
