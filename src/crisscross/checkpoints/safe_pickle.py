"""What a pickle asks for, found out from its instructions before anything is made of them."""

import pickletools
from collections.abc import Iterator
from typing import BinaryIO

# Values inside one another; checkpoints come to about ten. Far deeper ones break the interpreter's stack.
DEPTH = 100
# Makes as many bytes as a number says.
REFUSED = ("builtins bytearray", "__builtin__ bytearray")
# Instructions all of whose arguments become parts of a new value; of others the first one is what takes the rest in.
_WHOLES = ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "LIST", "DICT", "FROZENSET")
_MARK = -1


class Excessive(Exception):
    """A pickle that asks for more than any checkpoint does."""


def scan(stream: BinaryIO) -> None:
    """Read one pickle to its end, without making anything of it.

    Raises:
        Excessive: values nested more than `DEPTH` deep, a place in the memo beyond what the pickle can fill (which
            takes that much memory), or a value made of mere size.
        Exception: whatever else `pickletools` finds wrong.
    """
    stack: list[int] = []
    memo: dict[int, int] = {}
    for count, (operation, argument, _) in enumerate(pickletools.genops(stream)):
        name = operation.name
        if name in ("GLOBAL", "INST") and argument in REFUSED:
            raise Excessive("it holds builtins.bytearray, which is no part of a checkpoint of tensors")
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            place = len(memo) if argument is None else int(argument)
            if place > count:
                raise Excessive(f"it wants a memo of {place} places for its {count} instructions")
            memo[place] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[int(argument or 0)])
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "DUP":
            stack.append(stack[-1])
        else:
            _apply(operation, stack)
        if stack and stack[-1] > DEPTH:
            raise Excessive(f"its values are nested more than {DEPTH} deep")


def _apply(operation: pickletools.OpcodeInfo, stack: list[int]) -> None:
    """Take an instruction's arguments off the stack of depths and put its result there."""
    taken = list(_taken(operation, stack))
    if operation.name in _WHOLES:
        depth = 1 + max(taken, default=0)
    else:
        *parts, whole = taken or [0]
        depth = max(whole, 1 + max(parts, default=-1))
    stack += [depth] * len(operation.stack_after)


def _taken(operation: pickletools.OpcodeInfo, stack: list[int]) -> Iterator[int]:
    """The depths of the arguments, the last one first."""
    below = len(operation.stack_before)
    if pickletools.markobject in operation.stack_before:
        below = operation.stack_before.index(pickletools.markobject)
        while (depth := stack.pop()) != _MARK:
            yield depth
    elif operation.name == "POP" and stack[-1] == _MARK:
        stack.pop()
        return
    for _ in range(below):
        yield stack.pop()
