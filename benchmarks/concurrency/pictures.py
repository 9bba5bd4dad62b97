"""The pictures of the report, each as SVG and PNG: calls per second, p95 and memory, against the users.

    draw(results, folder)

Each server has a marker and a line style of its own, so that they are told apart without colours, and its name stands
at the end of its line.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from msgspec import Struct

from benchmarks.concurrency.contenders import CONTENDERS
from benchmarks.concurrency.driving import Step
from benchmarks.concurrency.results import Results

Dashes: TypeAlias = str | tuple[int, tuple[float, ...]]

_MARKERS = "osv^D<>PhXdp*"
_DASHES: tuple[Dashes, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)))
_COLOURS = {"standard library": "#b2182b", "Flask on uWSGI": "#9a5b00", "Tornado": "#762a83", "gateway": "#1f4e99"}
_GAP = 0.055  # of the height, from one name to the next
_LEAST = 0.1  # calls per second at the foot of the scale


class Chart(Struct, frozen=True, kw_only=True):
    """A picture.

    Attributes:
        name: of its files.
        value: what is drawn of a step; None for nothing.
        written: how the value is written behind the server's name.
        least: what a smaller value is drawn as, because a logarithm has no zero.
        finish: draws what is neither a server nor a scale.

    """

    name: str
    title: str
    axis: str
    value: Callable[[Step], float | None]
    written: Callable[[float, Results], str]
    finish: Callable[[Axes, Results], None]
    least: float = 0.0


class Line(Struct, frozen=True, kw_only=True):
    """A server in a picture."""

    label: str
    marker: str
    dashes: Dashes
    colour: str
    points: list[tuple[int, float]]


def draw(results: Results, folder: Path) -> None:
    """Draw all of them."""
    with mpl.rc_context({"font.size": 11, "svg.hashsalt": "concurrency"}):
        for chart in CHARTS:
            figure = drawn(chart, results)
            figure.savefig(folder / f"{chart.name}.svg", metadata={"Date": None})
            figure.savefig(folder / f"{chart.name}.png", dpi=110)


def drawn(chart: Chart, results: Results) -> Figure:
    """Draw one."""
    figure = Figure(figsize=(11, 6.4), facecolor="white")
    axes = figure.add_axes((0.075, 0.1, 0.58, 0.8))
    lines = lines_of(chart, results)
    users = sorted({step.users for step in results.steps})
    axes.set_xscale("log")
    axes.set_xlim(users[0] * 0.88, users[-1] * 1.06)
    axes.xaxis.set_major_locator(FixedLocator(users))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("users who call at once")
    axes.set_ylabel(chart.axis)
    axes.set_title(chart.title.format(seconds=f"{results.pace.call_seconds:g}"), loc="left", fontweight="bold")
    for line in lines:
        axes.plot(*zip(*line.points, strict=True), **_style(line), linewidth=1.6)
    chart.finish(axes, results)
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    _name(axes, lines)
    return figure


def lines_of(chart: Chart, results: Results) -> list[Line]:
    """Make a line of each server that has a value."""
    found = []
    for number, contender in enumerate(CONTENDERS):
        values = [(step.users, chart.value(step)) for step in results.steps if step.server == contender.key]
        points = sorted((users, value) for users, value in values if value is not None)
        if points:
            found.append(
                Line(
                    label=f"{contender.name}: {chart.written(points[-1][1], results)}",
                    marker=_MARKERS[number % len(_MARKERS)],
                    dashes=_DASHES[number % len(_DASHES)],
                    colour=_COLOURS[contender.family],
                    points=[(users, max(value, chart.least)) for users, value in points],
                )
            )
    return found


def _style(line: Line) -> dict[str, Any]:
    return {"color": line.colour, "marker": line.marker, "linestyle": line.dashes, "markersize": 6.5}


def _name(axes: Axes, lines: Sequence[Line]) -> None:
    """Write the names beside the lines' ends, each with a thread to its own."""
    to_axes = axes.transData + axes.transAxes.inverted()
    heights = [float(to_axes.transform(line.points[-1])[1]) for line in lines]
    for line, height in zip(lines, spread(heights, _GAP), strict=True):
        axes.annotate(
            "",
            xy=line.points[-1],
            xytext=(1.05, height),
            textcoords="axes fraction",
            arrowprops={"arrowstyle": "-", "color": line.colour, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 4},
            annotation_clip=False,
        )
        across: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False}
        axes.plot([1.05, 1.085], [height, height], **(_style(line) | {"marker": ""}), **across)
        axes.plot([1.0675], [height], **_style(line), **across)
        axes.text(1.1, height, line.label, transform=axes.transAxes, color=line.colour, va="center", fontsize=10.5)


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Move heights as little as possible until none is nearer to another than the gap, and all are between 0 and 1.

    Neighbours that are too near become a block, which stands around their mean.
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    blocks: list[list[int]] = []
    for index in order:
        blocks.append([index])
        while len(blocks) > 1 and _bottom(blocks[-2], wanted, gap) + len(blocks[-2]) * gap > _bottom(
            blocks[-1], wanted, gap
        ):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    found = dict.fromkeys(order, 0.0)
    for block in blocks:
        for place, index in enumerate(block):
            found[index] = _bottom(block, wanted, gap) + place * gap
    return [found[index] for index in range(len(wanted))]


def _bottom(block: Sequence[int], wanted: Sequence[float], gap: float) -> float:
    height = (len(block) - 1) * gap
    middle = sum(wanted[index] for index in block) / len(block)
    return min(max(middle - height / 2, 0), 1 - height)


def _finish_rate(axes: Axes, results: Results) -> None:
    axes.set_yscale("log")
    ideal = sorted({(step.users, step.ideal) for step in results.steps})
    axes.plot(*zip(*ideal, strict=True), color="#999999", linewidth=7, alpha=0.45, zorder=0, solid_capstyle="round")
    users, rate = ideal[len(ideal) // 2]
    axes.annotate("the ideal", (users, rate), xytext=(-14, 12), textcoords="offset points", ha="right", color="#555555")
    axes.set_ylim(bottom=_LEAST * 0.8)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def _finish_p95(axes: Axes, results: Results) -> None:
    seconds, patience = results.pace.call_seconds, results.pace.call_seconds * results.pace.patience
    axes.set_ylim(0, patience * 1.12)
    for height, text, above in ((seconds, "the ideal", -17), (patience, f"given up after {patience:g} s", 8)):
        axes.axhline(height, color="#999999", linewidth=5, alpha=0.45, zorder=0)
        axes.annotate(
            text,
            (0.5, height),
            xycoords=("axes fraction", "data"),
            xytext=(0, above),
            textcoords="offset points",
            ha="center",
            color="#555555",
        )


def _waited(seconds: float, results: Results) -> str:
    patience = results.pace.call_seconds * results.pace.patience
    return f"{seconds:.1f} s" if seconds < patience else f"over {patience:g} s"


def _finish_memory(axes: Axes, _: Results) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.yaxis.set_major_locator(FixedLocator([10, 20, 50, 100, 200, 500, 1000, 2000]))
    axes.yaxis.set_minor_locator(NullLocator())


CHARTS = (
    Chart(
        name="calls_per_second",
        title="Calls that block for {seconds} s: how many are completed",
        axis="completed calls per second",
        value=lambda step: step.figures.calls_per_second,
        written=lambda value, _: f"{value:,.0f}/s" if value >= 10 else f"{value:.1f}/s",
        finish=_finish_rate,
        least=_LEAST,
    ),
    Chart(
        name="p95",
        title="Calls that block for {seconds} s: how long 95 of 100 wait, at the most",
        axis="seconds",
        value=lambda step: step.figures.p95,
        written=_waited,
        finish=_finish_p95,
    ),
    Chart(
        name="memory",
        title="Calls that block for {seconds} s: memory of the server at the most",
        axis="MiB",
        value=lambda step: step.memory.peak / 2**20,
        written=lambda value, _: f"{value:,.0f} MiB",
        finish=_finish_memory,
    ),
)
