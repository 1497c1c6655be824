"""Fewer weights: by how far the posterior's means are from 0, in its own standard deviations."""

from tfbnn.pruning.signal_to_noise import signal_to_noise
from tfbnn.pruning.units import prune_units
from tfbnn.pruning.weights import knee, prune, pruning_table

__all__ = ["knee", "prune", "prune_units", "pruning_table", "signal_to_noise"]
