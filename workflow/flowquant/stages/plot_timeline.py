"""Which job computed on which device when."""

from itertools import groupby
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from flowquant.report.look import COLOURS
from flowquant.report.style import save
from flowquant.report.tables import write_table
from flowquant.report.timeline import busy, end_of, lanes, read_timeline

# Of stages that share a colour: there are more stages than colours.
HATCHES = ("", "////", "....")
COLUMNS = ("device", "kind", "stage", "output", "started", "claimed", "ended")


def plot_timeline(devices: Path, data: Path, outputs: tuple[Path, ...], dpi: int) -> None:
    """Draw a bar for each job: pale while its process starts and waits, then full on its device.

    Args:
        devices: What a run's jobs noted of their devices; the last run in it is drawn.
        data: CSV to write: all that is drawn, in seconds since the first job was started.
        outputs: Figures to write, format by suffix.
        dpi: Resolution of PNG files.

    Raises:
        UserError: if the file is unreadable or says nothing of any job.
    """
    spans = read_timeline(devices)
    rows = [{name: getattr(span, name) for name in COLUMNS} for span in spans]
    write_table(data, COLUMNS, [_rounded(row) for row in rows])
    stages = list(dict.fromkeys(span.stage for span in sorted(spans, key=lambda s: s.started)))
    looks: dict[str, dict[str, Any]] = {
        stage: {
            "facecolor": tuple(COLOURS.values())[i % 6],
            "hatch": HATCHES[i // 6 % 3],
            "edgecolor": "white",
        }
        for i, stage in enumerate(stages)
    }
    seconds = max(map(end_of, spans))
    places, names, shares = [], [], []
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    height = 0
    for device, group in groupby(spans, key=lambda span: span.device):
        own = list(group)
        rows_of_device = lanes(own)
        for lane in rows_of_device:
            for span in lane:
                look = {"left": span.started, "lw": 0.3} | looks[span.stage]
                axes.barh(height, span.claimed - span.started, height=0.3, alpha=0.4, **look)
                look["left"] = span.claimed
                axes.barh(height, end_of(span) - span.claimed, height=0.8, **look)
            height += 1
        places.append(height - (len(rows_of_device) + 1) / 2)
        names.append(device)
        shares.append(f"{busy(own, seconds):.0%} / {busy(own, seconds, whole=True):.0%}")
    figure.set_size_inches(8, 1.2 + 0.35 * height)
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set_xlim(0, seconds)
    axes.grid(False, axis="y")
    axes.set_xlabel("seconds since the first job was started")
    for place, share in zip(places, shares, strict=True):
        axes.text(1.01, place, share, va="center", transform=axes.get_yaxis_transform())
    axes.set_title(f"{len(names)} × {spans[0].kind}; share of the time in use / given to jobs")
    handles = [Patch(label=stage, **look) for stage, look in looks.items()]
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.14, 1.02), fontsize=8)
    save(figure, outputs, dpi)


def _rounded(row: dict[str, object]) -> dict[str, object]:
    return {k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}
