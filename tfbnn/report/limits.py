"""What the uncertainty of each method means, and what it does not."""

from __future__ import annotations

from tfbnn.report.evidence import Evidence

OF_METHODS = {
    "VariationalInference": "The posterior is a family of distributions fitted to the true one. A mean-field one "
    "ignores how weights depend on each other, and tends to be too sure between and beyond the training rows.",
    "MonteCarloDropout": "Epistemic uncertainty comes from dropping units. Its size follows from the dropout rate, "
    "which is a choice unless it is learned, and it does not vanish with more data.",
    "DeepEnsemble": "The members are independent trainings. Where they agree by chance, as far from the training rows "
    "they may, the ensemble is sure for no reason; a handful of them tells a spread coarsely.",
    "SWAG": "A Gaussian about the end of one training: other solutions, which training did not come by, are not in it.",
    "Laplace": "A Gaussian about one solution, as wide as the curvature there says: other solutions are not in it.",
    **dict.fromkeys(
        ("SGLD", "SGHMC"), "Draws of a chain with noisy gradients: correlated, and biased by the step size."
    ),
    **dict.fromkeys(
        ("HMC", "NUTS"),
        "Draws of the posterior itself, as far as the chains have converged; the prior and the network are choices.",
    ),
}
SHARED = (
    "Aleatoric uncertainty is noise of the target given these columns; another column might explain it.",
    "Epistemic uncertainty is of the weights, under this network, prior and likelihood. That one of those is wrong is "
    "not in it.",
    "All is measured on rows like the training rows. Of rows of another kind (another place, year or instrument) "
    "neither scores nor calibration were measured.",
)
OF_NUMBERS = (
    "A noise that is one number for all rows is a point estimate: its own uncertainty is not told, and rows of more "
    "noise than others are not seen."
)
OF_CONFORMAL = "Conformal outputs hold their level on average over rows, not for each group of rows."


def limits(evidence: Evidence) -> list[str]:
    """Sentences for the report and the model card."""
    message = evidence.about.get("inference", {}).get("message")
    told = [OF_METHODS[evidence.method]] if evidence.method in OF_METHODS else []
    told += [f"The method says: {message}"] if message else []
    told += SHARED
    told += [] if evidence.is_classifier else [OF_NUMBERS]
    return told + ([] if evidence.conformal is None else [OF_CONFORMAL])
