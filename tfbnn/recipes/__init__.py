"""Recipes: whole applications in a YAML file."""

from tfbnn.recipes.run import RecipeResult, run_recipe
from tfbnn.recipes.spec import Recipe

__all__ = ["Recipe", "RecipeResult", "run_recipe"]
