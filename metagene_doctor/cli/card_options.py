"""Options of commands that ask about a card which need not be in this machine."""

from __future__ import annotations

import click

from metagene_doctor.cli.numbers import Number

CARD_GB = Number(1, 1024)
"""Memory of a card as sold. A larger number is most likely in MiB, as nvidia-smi has it."""

gpu_memory_option = click.option(
    "--gpu-mem", type=CARD_GB, metavar="GB", help="Its memory as sold, instead of its name."
)
gpus_option = click.option(
    "--gpus",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Cards of this kind.",
)
