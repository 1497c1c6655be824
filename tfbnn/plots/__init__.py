"""Pictures of predictions and of methods; needs matplotlib (the extra `plots`)."""

from tfbnn.plots.active import plot_asked, plot_learning_curves
from tfbnn.plots.bands import plot_bands
from tfbnn.plots.classes import plot_classes
from tfbnn.plots.comparison import plot_comparison

__all__ = ["plot_asked", "plot_bands", "plot_classes", "plot_comparison", "plot_learning_curves"]
