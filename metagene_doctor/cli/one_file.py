"""An option that takes one file, and says so when it is given another one."""

from __future__ import annotations

from collections.abc import Sequence
from shlex import join
from typing import Any

import click


class OneFile(click.Option):
    """Given twice, an ordinary option silently forgets the first file."""

    def __init__(self, names: Sequence[str], **settings: Any):
        super().__init__(names, **(settings | {"multiple": True}))

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        files = super().process_value(ctx, value)
        if files and len(files) > 1:
            raise click.UsageError(
                f"{self.opts[0]} takes one file here, not {len(files)}; join them first, also compressed "
                f"ones of one kind: cat {join(map(str, files))} > joined"
            )
        return files[0] if files else None
