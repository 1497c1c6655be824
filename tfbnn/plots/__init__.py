"""Pictures of predictions and of methods; needs matplotlib (the extra `plots`)."""

from tfbnn.plots.bands import plot_bands
from tfbnn.plots.classes import plot_classes
from tfbnn.plots.comparison import plot_comparison
from tfbnn.plots.pruning import plot_pruning

__all__ = ["plot_bands", "plot_classes", "plot_comparison", "plot_pruning"]
