"""Recipes: whole applications in a YAML file."""

from tfbnn.recipes.run import RecipeResult, checkpoint_path, prepare_data, run_recipe, was_interrupted
from tfbnn.recipes.spec import Recipe

__all__ = ["Recipe", "RecipeResult", "checkpoint_path", "prepare_data", "run_recipe", "was_interrupted"]
