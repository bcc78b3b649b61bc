"""The memory heat maps as a picture."""

from __future__ import annotations

from pathlib import Path

from metagene_doctor.tuning.exploration import HeatMap
from metagene_doctor.tuning.recommended import must_be_new
from metagene_train.errors import InputError

SUFFIXES = (".png", ".svg", ".pdf")


def must_be_drawable(path: Path, *, force: bool) -> None:
    """Raise InputError before the search rather than after it, when the picture could not be written."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"--plot {path}: a picture is a file {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    must_be_new(path, force=force)


def save(heat_maps: tuple[HeatMap, ...], path: Path, title: str) -> None:
    """Write the maps side by side (PNG, SVG or PDF by suffix). Cells that do not fit are hatched, so that
    the picture reads without colour."""
    import matplotlib

    matplotlib.use("Agg")
    import numpy as np
    from matplotlib import pyplot
    from matplotlib.colors import TwoSlopeNorm
    from matplotlib.patches import Rectangle

    figure, axes = pyplot.subplots(
        1, len(heat_maps), figsize=(7 * len(heat_maps), 4.8), squeeze=False, layout="constrained"
    )
    for axis, heat_map in zip(axes[0], heat_maps, strict=True):
        gib, usable = np.array(heat_map.gib), heat_map.usable_gib
        norm = TwoSlopeNorm(usable, vmin=min(gib.min(), usable - 1), vmax=max(2 * usable, usable + 1))
        axis.imshow(gib, cmap="RdYlGn_r", norm=norm, aspect="auto")
        for row, size in enumerate(heat_map.rows):
            for column, length in enumerate(heat_map.columns):
                value = gib[row, column]
                recommended = (size, length) == heat_map.recommended
                weight = "bold" if recommended else "normal"
                ink = "white" if value > 1.6 * usable or value < 0.7 * usable else "black"
                axis.text(
                    column,
                    row,
                    f"{value:.1f}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    weight=weight,
                    color=ink,
                )
                corner = (column - 0.5, row - 0.5)
                if value > usable:
                    axis.add_patch(Rectangle(corner, 1, 1, fill=False, hatch="///", alpha=0.25, lw=0))
                if recommended:
                    axis.add_patch(Rectangle(corner, 1, 1, fill=False, lw=2.5, color="black"))
        axis.set_xticks(range(len(heat_map.columns)), [str(value) for value in heat_map.columns])
        axis.set_yticks(range(len(heat_map.rows)), [str(value) for value in heat_map.rows])
        axis.set_xlabel(heat_map.column_name)
        axis.set_ylabel(heat_map.row_name)
        axis.set_title(heat_map.title, fontsize=10)
    figure.suptitle(
        f"{title}\npredicted GiB with margin, hatched: does not fit, box: recommended", fontsize=10
    )
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
