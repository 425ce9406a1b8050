"""Recipes by name: what was published, and ours. A recipe never mentions a machine."""

from crisscross.zoo.classes import with_known_classes
from crisscross.zoo.published import PUBLISHED, Published
from crisscross.zoo.recipes import OURS, RECIPES, published, recipe, shipped_weights

__all__ = ["OURS", "PUBLISHED", "RECIPES", "Published", "published", "recipe", "shipped_weights", "with_known_classes"]
