"""The plots in docs/: SVG on white, the same file for the same figures. Knows how to draw, and not what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from tests.server import ROOT

# Of Okabe and Ito, told apart by people who see fewer colours too.
OURS = ("#0072b2", "#009e73", "#56b4e9", "#000000", "#cc79a7")
RIVALS = ("#d55e00", "#e69f00")

# Text stays text and ids do not change from run to run: a new run changes only what was measured.
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "channels",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10.5,
}


@dataclass(frozen=True)
class Line:
    """Points in order of x; a rival's is drawn dashed, and a single one as a mark."""

    label: str
    points: Sequence[tuple[float, float]]
    rival: bool = False


def save(name: str, title: str, x: str, y: str, lines: Sequence[Line]) -> None:
    """Writes docs/`name`.svg: both axes logarithmic, a tick at each x that is there."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(8.6, 4.4), layout="constrained", facecolor="white")
        axes = figure.add_subplot(xscale="log", yscale="log", xlabel=x, ylabel=y)
        figure.suptitle(title, x=0.01, horizontalalignment="left")
        colours = {True: iter(RIVALS), False: iter(OURS)}
        for number, line in enumerate(lines):
            xs, ys = zip(*line.points, strict=True)
            marker, dashes = ("X", "--") if line.rival else ("o", "-")
            width = max(1.5, 6 / 2**number)  # none hides another
            axes.plot(
                xs,
                ys,
                dashes,
                marker=marker,
                markersize=5 + width,
                linewidth=width,
                color=next(colours[line.rival]),
                label=line.label,
            )
        axes.set_xticks(sorted({point[0] for line in lines for point in line.points}))
        axes.xaxis.set_minor_locator(NullLocator())
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axes.grid(visible=True, alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside right center", frameon=False)
        figure.savefig(ROOT / f"docs/{name}.svg", metadata={"Date": None})
