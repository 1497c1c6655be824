"""The posterior as one SavedModel that answers with its uncertainty."""

from tfbnn.export.saved_model import export_saved_model
from tfbnn.export.served_model import ServedModel, load_saved_model

__all__ = ["ServedModel", "export_saved_model", "load_saved_model"]
