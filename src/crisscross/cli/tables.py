"""Tables on the terminal."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from crisscross.terminal import aligned, console, is_live, plain, say

if TYPE_CHECKING:
    from crisscross.engine.task import Result


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print a table with rules on a terminal, plain elsewhere; the first row is the head, numbers are on the right."""
    rows = [[plain(cell) for cell in row] for row in rows]
    if is_live(sys.stdout):
        from rich.table import Column, Table
        from rich.text import Text

        first, *others = rows[0]
        table = Table(Column(Text(first)), *(Column(Text(name), justify="right") for name in others))
        for row in rows[1:]:
            table.add_row(*map(Text, row))
        console().print(table)
        return
    print_plain(rows)


def print_plain(rows: Sequence[Sequence[str]]) -> None:
    """`print_table` without rules: names are never wrapped, so that they can be copied."""
    say(*aligned(rows))


def print_result(result: "Result") -> None:
    """The lines and tables of a task's scores."""
    for part in result.shown:
        if isinstance(part, str):
            say(part)
        else:
            print_table(part)
