"""Recipes by name: what was published, and ours. A recipe never mentions a machine."""

from crisscross.zoo.classes import known_classes, with_known_classes
from crisscross.zoo.instances import INSTANCE_RECIPES
from crisscross.zoo.published_networks import ALIASES, PUBLISHED, Published
from crisscross.zoo.recipes import OURS, RECIPES, published, recipe, row, shipped_weights

__all__ = [
    "ALIASES",
    "INSTANCE_RECIPES",
    "OURS",
    "PUBLISHED",
    "RECIPES",
    "Published",
    "known_classes",
    "published",
    "recipe",
    "row",
    "shipped_weights",
    "with_known_classes",
]
