"""Recipes by name: what was published, and ours. A recipe never mentions a machine."""

from crisscross.zoo.recipes import RECIPES, recipe, shipped_weights

__all__ = ["RECIPES", "recipe", "shipped_weights"]
