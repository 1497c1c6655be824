"""What is gained where the least certain rows are referred to somebody else."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfbnn.plots.base import BLUE, GREY, INK, ORANGE, legend_above, panels
from tfbnn.prediction import Prediction
from tfbnn.prediction.risk_coverage import certainty as own_certainty
from tfbnn.prediction.risk_coverage import losses, risk_coverage


def plot_risk_coverage(
    prediction: Prediction,
    y: Any,
    certainty: Any = None,
    kept: float | None = None,
    target: str = "the target",
    costs: Any = None,
) -> Any:
    """Risk of the rows that are kept, the most certain first: error rate of classes, RMSE of numbers in units of y.

    Args:
        prediction: of B rows.
        y: [B] or [B, T]; class indices for classes.
        certainty: [B], higher where surer; None: the largest probability, or minus the predictive variance.
        kept: share of the rows that a decision keeps, which is marked.
        target: name of its column.
        costs: of each row, [B], whose mean is shown instead.

    Returns:
        The Matplotlib figure: the curve, that of the best order, and the risk where none is referred.

    Raises:
        InvalidInput: where matplotlib is absent, or shapes do not fit.

    Example:
        >>> plot_risk_coverage(prediction, y, -prediction.mutual_information).savefig("risk_coverage.png")

    Reference: Geifman & El-Yaniv 2017, figure 1.
    """
    prediction.likelihood.check_target("y", np.asarray(y))
    loss = losses(prediction, y) if costs is None else np.asarray(costs, np.float64)
    is_rmse = costs is None and not prediction.likelihood.is_classifier
    is_rate = costs is None and not is_rmse
    curves = {
        "least certain referred first": (BLUE, risk_coverage(loss, _or_own(certainty, prediction))),
        "best order: largest losses referred first": (ORANGE, risk_coverage(loss, -loss)),
    }
    figure, [axis] = panels(1, 1, 4.4, 3.4)
    for label, (colour, curve) in curves.items():
        risk = np.sqrt(curve.risk) if is_rmse else curve.risk
        axis.plot(curve.coverage, risk, color=colour, linewidth=1.4, label=label)
    axis.axhline(risk[-1], color=GREY, linewidth=1.0, linestyle="--", label="referred at random")
    if kept is not None:
        axis.axvline(kept, color=INK, linewidth=1.0, linestyle=":", label=f"{kept:.0%} are kept by the decision")
    axis.set_xlim(0, 1)
    axis.set_ylim(bottom=min(0.0, float(loss.min())))
    axis.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    if is_rate:
        axis.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g}%")
    axis.set_xlabel("share of the rows that are kept", fontsize=9)
    words = {is_rate: "error rate of those kept", is_rmse: f"RMSE of those kept\n(units of {target})"}
    axis.set_ylabel(words.get(True, "cost of those kept, a row"), fontsize=9)
    legend_above(axis)
    return figure


def _or_own(certainty: Any, prediction: Prediction) -> Any:
    return own_certainty(prediction) if certainty is None else certainty
