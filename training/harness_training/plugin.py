"""Registers the training commands."""

from __future__ import annotations

import click

from harness import hookimpl


@hookimpl
def harness_commands(group: click.Group) -> None:
    """``harness data``, ``harness mine``, ``harness train`` and ``harness release``."""
    from harness_training.cli.data import data
    from harness_training.cli.mine import command as mine
    from harness_training.cli.release import command as release
    from harness_training.cli.train import command as train

    for command in (data, mine, train, release):
        group.add_command(command)
