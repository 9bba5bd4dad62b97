"""The picture of the report: calls per second of processor time at 64 connections, a bar for each server.

draw(results, folder)   calls_per_second.svg and calls_per_second.png
"""

import statistics
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from msgspec import Struct

from benchmarks.speed.cases import BY_KEY as GROUPS
from benchmarks.speed.cases import CASES
from benchmarks.speed.results import Results, Run, ratios
from benchmarks.speed.servers import BY_KEY as SERVERS

_NAME = "calls_per_second"
_OURS, _REFERENCE, _OTHERS = "#1f4e99", "#555555", "#a9a9a9"
_BAR = 0.36  # inches from one bar to the next
_TITLE = 0.72  # inches of a panel beside its bars
_WIDTH, _LEFT, _RIGHT = 9.8, 2.9, 2.2  # inches: of all, of the names, of the figures


class Panel(Struct, frozen=True, kw_only=True):
    """A part of the picture: the case whose runs are drawn."""

    case: str
    title: str


PANELS = (
    Panel(case="xml add 64", title="XML-RPC"),
    Panel(case="xml-proxied add 64", title="XML-RPC, heads as behind nginx"),
    Panel(case="json add 64", title="JSON-RPC"),
    Panel(case="json-proxied add 64", title="JSON-RPC, heads as behind nginx"),
)


def draw(results: Results, folder: Path) -> None:
    """Draw it, as SVG and PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"font.size": 10.5, "svg.hashsalt": "speed"}):
        figure = drawn(results)
        figure.savefig(folder / f"{_NAME}.svg", metadata={"Date": None})
        figure.savefig(folder / f"{_NAME}.png", dpi=110)


def drawn(results: Results) -> Figure:
    """Draw it."""
    panels = [(panel, runs) for panel in PANELS if (runs := _runs(results, panel))]
    heights = [_TITLE + _BAR * len(runs) for _, runs in panels]
    height = sum(heights) + 0.75
    figure = Figure(figsize=(_WIDTH, height), facecolor="white")
    figure.text(
        0.15 / _WIDTH,
        1 - 0.32 / height,
        "Calls of add(7, 3) per second of the server's processor time, 64 connections",
        fontweight="bold",
        va="center",
    )
    top = height - 0.5
    most = max((each.per_cpu for _, runs in panels for run in runs for each in run.rounds), default=1)
    for (panel, runs), tall in zip(panels, heights, strict=True):
        bottom = top - tall
        box = (_LEFT / _WIDTH, (bottom + 0.2) / height, (_WIDTH - _LEFT - _RIGHT) / _WIDTH, (tall - 0.52) / height)
        axes = figure.add_axes(box)
        _bars(axes, panel, runs, results)
        axes.set_xlim(0, most * 1.01)
        top = bottom
    return figure


def _runs(results: Results, panel: Panel) -> Sequence[Run]:
    """Return the runs of a panel, the fastest first."""
    found = [run for run in results.runs if run.case == panel.case and run.rounds]
    return sorted(found, key=lambda run: run.median(lambda each: each.per_cpu), reverse=True)


def _bars(axes: Axes, panel: Panel, runs: Sequence[Run], results: Results) -> None:
    reference = results.run(panel.case, GROUPS[CASES[panel.case].group].reference)
    axes.set_title(panel.title, loc="left", fontsize=11, x=-(_LEFT - 0.15) / (_WIDTH - _LEFT - _RIGHT), pad=5)
    for place, run in enumerate(runs):
        ours = run.server.startswith("gateway")
        colour = _OURS if ours else _REFERENCE if run is reference else _OTHERS
        values = [each.per_cpu for each in run.rounds]
        value = run.median(lambda each: each.per_cpu)
        axes.barh(place, value, height=0.68, color=colour)
        axes.plot([min(values), max(values)], [place, place], color="#f08a24", linewidth=1.4, marker="|", markersize=6)
        text = f"{value:,.0f}"
        if reference is not None and run is not reference:
            found = statistics.median(ratios(run, reference, lambda each: each.per_cpu))
            text += f"   {found:.2f} x {SERVERS[reference.server].short}"
        axes.annotate(
            text,
            (max(values), place),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            annotation_clip=False,
            fontweight="bold" if ours else "normal",
        )
    axes.set_yticks(range(len(runs)), [SERVERS[run.server].name for run in runs])
    for label, run in zip(axes.get_yticklabels(), runs, strict=True):
        label.set_fontweight("bold" if run.server.startswith("gateway") else "normal")
    axes.invert_yaxis()
    axes.tick_params(left=False, bottom=False, labelbottom=False)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
