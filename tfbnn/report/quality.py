"""How good the predictions are, whether their uncertainty can be believed, and how much they leave open."""

from __future__ import annotations

import functools

import numpy as np

from tfbnn.core.wording import as_known, scores_in_words
from tfbnn.evaluation import Estimate, with_interval
from tfbnn.plots import plot_pit, plot_reliability, plot_sharpness
from tfbnn.report.base import Block, Picture, Section, Table, Text
from tfbnn.report.evidence import Evidence

NEARLY_CALIBRATED = 0.02  # intervals of calibrated models often begin just above 0: docs/evaluation.md has numbers
CONFORMAL = ("conformal_coverage", "conformal_width", "set_size")


def how_it_did(evidence: Evidence) -> Section:
    """The scores in a table; in words it is the `verdict`, with which a report begins."""
    return Section("How it did", scores(evidence))


def scores(evidence: Evidence) -> list[Block]:
    """The table of scores, and what its intervals are."""
    note = (
        f"Scores of {evidence.rows_in_words}. The intervals (bootstrap, 95%) tell where a score would lie on other "
        "rows of the same kind, not on rows of another kind."
    )
    return [table_of(evidence.scores, f"score of {evidence.num_rows:,} rows", evidence), Text(note)]


def table_of(scores: dict[str, Estimate], heading: str, evidence: Evidence) -> Table:
    """A line a score: in words, its value, its interval."""
    values = {name: estimate.value for name, estimate in scores.items()}
    lines = scores_in_words(values, evidence.level, scores, as_known, evidence.target)
    rows = [(words, value, " to ".join(ends)) for words, value, *ends in lines]
    return Table((heading, "value", "95% interval"), rows)


def verdict(evidence: Evidence) -> str:
    """What to think of the model, in a few sentences."""
    return _of_classes(evidence) if evidence.is_classifier else _of_numbers(evidence)


def _of_classes(evidence: Evidence) -> str:
    counts = np.bincount(evidence.y[:, 0], minlength=len(evidence.labels))
    commonest = evidence.labels[int(counts.argmax())]
    always, accuracy = counts.max() / counts.sum(), evidence.scores["accuracy"]
    told = (
        f"It named the right class in {with_ends(accuracy, is_share=True)} of {evidence.rows_in_words}; "
        f"'{commonest}' for every row would be right in {always:.1%}."
    )
    right = evidence.prediction.probabilities.argmax(axis=1) == evidence.y[:, 0]
    gain = with_interval(np.mean, right.astype(float) - (evidence.y[:, 0] == counts.argmax()))
    return f"{told}{_verdict_on(gain)}"


def _verdict_on(gain: Estimate) -> str:
    """What a paired difference from one answer for all shows."""
    if gain.lower > 0:
        return ""
    if gain.upper < 0:
        return " It is worse than that."
    return " That it is better than this was not shown. More rows, or other columns?"


def _of_numbers(evidence: Evidence) -> str:
    y = evidence.y.astype(np.float64)
    one_for_all, rmse = float(np.std(y)), evidence.scores["rmse"]
    error = f"Its root mean squared error is {with_ends(rmse)}, in units of {evidence.target}, over "
    same = as_known([one_for_all, *rmse.ends], is_share=False)[0]
    told = f"{error}{evidence.rows_in_words}; the mean of these rows, told for each, would have {same}."
    errors = [(evidence.prediction.mean - y) ** 2, (y - y.mean()) ** 2]
    gain = with_interval(lambda own, other: np.sqrt(np.mean(other)) - np.sqrt(np.mean(own)), *errors)
    return f"{told}{_verdict_on(gain)} {coverage_in_words(evidence)}"


def coverage_in_words(evidence: Evidence) -> str:
    """Whether the intervals hold the share that they promise."""
    coverage, level = evidence.scores["coverage"], evidence.level
    held = f"Its {level:.0%} intervals held the target in {with_ends(coverage, is_share=True)} of the rows"
    if coverage.lower <= level <= coverage.upper:
        return f"{held}: what they promise, as far as {evidence.num_rows:,} rows can tell."
    if coverage.value > level and evidence.prediction.likelihood.is_discrete:
        return f"{held}, which whole numbers make more than was asked."
    return f"{held}: it is {'too sure' if coverage.value < level else 'too cautious'}."


def with_ends(estimate: Estimate, is_share: bool = False) -> str:
    """As `58 (49 to 67)`."""
    value, *ends = as_known([estimate.value, *estimate.ends], is_share)
    return f"{value} ({' to '.join(ends)})" if ends else value


def calibration(evidence: Evidence) -> Section:
    """Whether what is told with probability p happens in a share p of the rows."""
    draw = functools.partial(plot_reliability, evidence.prediction, evidence.y)
    if not evidence.is_classifier:
        pictures = [
            Picture(
                draw, "Inside the grey band the predictive distributions are calibrated, as far as these rows tell."
            ),
            Picture(
                functools.partial(plot_pit, evidence.prediction, evidence.y),
                "Flat: calibrated. High at both ends: too sure; high in the middle: too cautious; high at one end: "
                "predictions are shifted.",
            ),
        ]
        return Section("Calibration", [Text(coverage_in_words(evidence)), *pictures])
    draw = functools.partial(draw, labels=_named(evidence)) if len(evidence.labels) == 2 else draw
    words = "Points on the diagonal: of rows told with probability p, a share p came true. Bars: rows in each bin."
    return Section("Calibration", [Text(_calibration_error(evidence)), Picture(draw, words)])


def _named(evidence: Evidence) -> list[str]:
    return [f"{evidence.target} = {label}" for label in evidence.labels]


def _calibration_error(evidence: Evidence) -> str:
    error = evidence.scores["ece"]
    told = f"The debiased calibration error is {with_ends(error)}; 0 is best."
    if error.lower <= NEARLY_CALIBRATED:
        return f"{told} These rows do not show miscalibration; it may be as large as {error.upper:.2f}."
    has_mend = evidence.about["model"].get("recalibration") is not None
    mend = "" if has_mend else " TemperatureScaling, under calibration in the recipe, may mend it."
    return f"{told} Probabilities and frequencies differ by about so much.{mend}"


def sharpness(evidence: Evidence) -> Section:
    """How much the predictions leave open."""
    if evidence.is_classifier:
        entropy, certain = evidence.prediction.predictive_entropy, evidence.prediction.probabilities.max(axis=1) >= 0.9
        told = (
            f"The likeliest class has a probability of 90% or more in {certain.mean():.0%} of the rows. The mean "
            f"predictive entropy is {entropy.mean():.2f} nats, of {np.log(len(evidence.labels)):.2f} at most."
        )
    else:
        width, spread = (
            evidence.scores["interval_width"],
            float(np.quantile(evidence.y, 0.95)) - float(np.quantile(evidence.y, 0.05)),
        )
        narrower = (
            f", {width.value / spread:.0%} of the range that holds 90% of the targets themselves" if spread else ""
        )
        told = (
            f"The {evidence.level:.0%} intervals are {with_ends(width)} wide on average, in units of {evidence.target}"
        )
        told += f"{narrower}."
    picture = Picture(
        functools.partial(plot_sharpness, evidence.prediction, evidence.level, evidence.target),
        "How much is left open, row by row. One narrow peak: the model is as unsure of every row.",
    )
    return Section("Sharpness", [Text(told), picture])


def conformal(evidence: Evidence) -> Section | None:
    """What the conformal outputs hold, beside what they promise."""
    if evidence.conformal is None:
        return None
    found = {name: value for name, value in evidence.decided.items() if name in CONFORMAL}
    calibrated = evidence.num_calibrated
    chance = np.sqrt(evidence.level * (1 - evidence.level) * (1 / evidence.num_rows + 1 / max(calibrated, 1)))
    told = (
        f"{type(evidence.conformal).__name__}, fitted on calibration rows, tells the truth of a new row with "
        f"probability {evidence.level:.0%} or more whatever the model, as long as new rows are like the calibration "
        f"rows. With {calibrated:,} of those and {evidence.num_rows:,} of these, chance alone moves the share by "
        f"±{2 * chance:.0%}."
    )
    if "set_size" in found and found["set_size"].value >= len(evidence.labels):
        told += " Here every set holds all classes, which says nothing: another kind may tell smaller ones."
    return Section("Conformal coverage", [Text(told), table_of(found, "conformal outputs", evidence)])
