"""`crisscross zoo`: list published systems and recipes, or print one."""

import argparse

from crisscross.terminal import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = "List published systems and recipes with their scores, or print one recipe as YAML."
    parser.add_argument("name", nargs="?", metavar="NAME", help="a recipe to print as YAML")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command.

    Raises:
        CrissCrossError: there is no such recipe.
    """
    from crisscross.cli.tables import print_plain
    from crisscross.zoo.instances import instance_table
    from crisscross.zoo.tables import lip_table, notes, our_table, published_tables

    if arguments.name:
        from crisscross import tasks
        from crisscross.config import to_yaml

        say(*(f"# {line}" for line in notes(arguments.name)))
        say(*to_yaml(tasks.recipe(arguments.name).experiment).splitlines())
    else:
        for title, table in published_tables().items():
            say(f"{title} (published by MMSegmentation | measured by us)")
            print_plain(table)
            say()
        say("Ours")
        print_plain(our_table())
        say("", "Human parsing, LIP val (published by the paper | measured by us)")
        print_plain(lip_table())
        say("", "Instance segmentation, COCO val 2017 (the paper's | measured by us)")
        print_plain(instance_table())
        say("", "`crisscross zoo NAME` prints one recipe; `crisscross train|evaluate|predict NAME ...` use it.")
    return 0
