"""Pictures of predictions, of posteriors and of methods; needs matplotlib (the extra `plots`)."""

from tfbnn.plots.active import plot_asked, plot_learning_curves
from tfbnn.plots.bands import plot_bands
from tfbnn.plots.base import write
from tfbnn.plots.classes import plot_classes
from tfbnn.plots.comparison import plot_comparison
from tfbnn.plots.densities import plot_densities
from tfbnn.plots.elbo import parts_of_elbo, plot_elbo
from tfbnn.plots.pit import plot_pit
from tfbnn.plots.pruning import plot_pruning
from tfbnn.plots.reliability import plot_reliability
from tfbnn.plots.risk_coverage import plot_risk_coverage
from tfbnn.plots.sharpness import plot_sharpness
from tfbnn.plots.uncertainties import plot_uncertainties
from tfbnn.plots.weights import plot_weights

__all__ = [
    "parts_of_elbo",
    "plot_asked",
    "plot_bands",
    "plot_classes",
    "plot_comparison",
    "plot_densities",
    "plot_elbo",
    "plot_learning_curves",
    "plot_pit",
    "plot_pruning",
    "plot_reliability",
    "plot_risk_coverage",
    "plot_sharpness",
    "plot_uncertainties",
    "plot_weights",
    "write",
]
