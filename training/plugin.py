"""The commands of the training wing."""

from __future__ import annotations

import click

from harness import hookimpl


@hookimpl
def harness_commands(group: click.Group) -> None:
    """``harness data``, ``harness mine`` and ``harness train``."""
    from training.cli_data import data
    from training.cli_mine import command as mine
    from training.cli_train import command as train

    group.add_command(data)
    group.add_command(mine)
    group.add_command(train)
