"""Tensors that backward computes again from others, so that they need not be kept.

Autograd keeps, for a convolution, a batch norm and a ReLU in a row, the norm's input and the ReLU's output. The second
follows from the first by one pass over the pixels. Such a tensor gets a `Recipe`; while `rebuilding()` is active,
autograd keeps the recipe instead of the tensor, and backward computes the tensor from it.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

# (a tensor, whether it may be overwritten, further tensors) -> the result.
Make = Callable[..., Tensor]


class Recipe:
    """How a tensor is computed again: `make(first, owned, *others)` of its sources, each a tensor or a recipe.

    Args:
        tensor: the result, as it is now; after a change in place the recipe no longer fits it.
        make: computes it; if `owned`, the first source is not needed any more and may be overwritten.
        *sources: what it is computed from; tensors are detached.
        length: number of additions in a row that lead here, see `lean.LONGEST_CHAIN`.
    """

    def __init__(self, tensor: Tensor, make: Make, *sources: Recipe | Tensor, length: int = 0) -> None:
        # The weak reference keeps the storage's address from being given to another.
        self.storage = StorageWeakRef(tensor.untyped_storage())
        self.look = tensor.shape, tensor.stride(), tensor.dtype, tensor.storage_offset()
        self.version = tensor._version
        self.make, self.length = make, length
        self.sources = [source if isinstance(source, Recipe) else source.detach() for source in sources]
        self.versions = [0 if isinstance(source, Recipe) else source._version for source in sources]
        self.waiting = 0
        self.value: Tensor | None = None

    def fits(self, tensor: Tensor) -> bool:
        """Whether the tensor is still the one that this computes."""
        look = tensor.shape, tensor.stride(), tensor.dtype, tensor.storage_offset()
        return tensor._version == self.version and look == self.look

    def expect(self) -> Recipe:
        """Count a future `take`; the tensor is held from the first to the last of them."""
        if not self.waiting:
            for source in self.sources:
                if isinstance(source, Recipe):
                    source.expect()
        self.waiting += 1
        return self

    def take(self) -> Tensor:
        """The tensor. If it is taken more often than expected, it is computed anew each time."""
        value = self._made() if self.value is None else self.value
        self.waiting -= 1
        self.value = value if self.waiting > 0 else None
        return value

    def _made(self) -> Tensor:
        for source, version in zip(self.sources, self.versions, strict=True):
            if isinstance(source, Tensor) and source._version != version:
                raise RuntimeError("a tensor that backward computes from was modified in place after forward")
        first, *others = self.sources
        taken = first.take() if isinstance(first, Recipe) else first
        owned = isinstance(first, Recipe) and first.value is None
        rest = [other.take() if isinstance(other, Recipe) else other for other in others]
        with torch.no_grad(), torch.autocast(taken.device.type, enabled=False):
            return self.make(taken, owned, *rest)


_active: contextvars.ContextVar[bool] = contextvars.ContextVar("rebuilding", default=False)
# By the address of the storage. A recipe is referenced by the tensor that it computes and by the graph.
_recipes: WeakValueDictionary[int, Recipe] = WeakValueDictionary()


def active() -> bool:
    """Whether recipes are recorded and used."""
    return _active.get()


@contextmanager
def rebuilding() -> Iterator[None]:
    """Inside, autograd keeps the recipe of a tensor that has one, instead of the tensor."""
    token = _active.set(True)
    try:
        with torch.autograd.graph.saved_tensors_hooks(_pack, _unpack):
            yield
    finally:
        _active.reset(token)


def recipe_of(tensor: Tensor) -> Recipe | None:
    """The recipe of a tensor, if it has one."""
    recipe = _recipes.get(tensor.untyped_storage()._cdata)
    return recipe if recipe is not None and recipe.fits(tensor) else None


def record(tensor: Tensor, recipe: Recipe) -> None:
    """Give the tensor this recipe, which lives as long as the tensor."""
    tensor._crisscross_recipe = recipe  # type: ignore[attr-defined]
    _recipes[tensor.untyped_storage()._cdata] = recipe


def _pack(tensor: Tensor) -> Recipe | Tensor:
    recipe = recipe_of(tensor)
    # A node that kept its own output attached would keep itself.
    return tensor.detach() if recipe is None else recipe.expect()


def _unpack(kept: Recipe | Tensor) -> Tensor:
    return kept.take() if isinstance(kept, Recipe) else kept
