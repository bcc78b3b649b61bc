"""Options of commands that ask about a card which need not be in this machine."""

from __future__ import annotations

import click

gpu_memory_option = click.option(
    "--gpu-mem", type=click.FloatRange(min=1), metavar="GB", help="Its memory as sold, instead of its name."
)
gpus_option = click.option(
    "--gpus",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Cards of this kind.",
)
