"""One look for every figure: colours that mean the same everywhere, sizes, and files that repeat byte for byte.

Figures are matplotlib `Figure` objects, never pyplot state: the user's backend, open windows and rcParams stay as
they are.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reprkit.files import replacing, write_text
from reprkit.tasks import Task

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#F0E442")
"""Eight colours that remain distinct with every common colour vision (Okabe & Ito, 2008)."""

MORE_COLOURS = ("#882255", "#999999", "#999933", "#332288", "#44AA99", "#661100", "#AA4499", "#88CCEE")
"""Continues OKABE_ITO where there are more classes or encoders (Tol, muted)."""

CLASS_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
ENCODER_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "p")
GREY = "#6E6E6E"
LIGHT = "#D9D9D9"
TEXT_WIDTH = 7.2
"""Width of a figure in inches that fits a text column of an A4 or letter page."""

_ENCODER_COLOURS = {"single": GREY, "vanilla": "#0072B2", "vanilla+dgr": "#D55E00"}
_OTHER_COLOURS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", *MORE_COLOURS)

RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same glyphs on every machine
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#444444",
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.5,
    "errorbar.capsize": 2.5,
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,  # text stays text
    "svg.hashsalt": "reprkit",
    "text.usetex": False,
    "text.parse_math": False,  # labels are the user's: a dollar sign is a dollar sign
    "axes.unicode_minus": True,
}


@contextlib.contextmanager
def context() -> Iterator[None]:
    """Matplotlib's defaults and this style inside the block; the user's rcParams again after it."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # which leaves the backend alone, as rc_context does
        matplotlib.rcParams.update(RC)  # type: ignore[arg-type]  # newer stubs want literal keys
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of the given size in inches, apart from pyplot, laid out so that nothing overlaps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def encoder_order(labels: Iterable[Any]) -> list[str]:
    """Distinct encoder labels, ordered: single, vanilla, then others by name; each base before its additions."""
    first = {"single": 0, "vanilla": 1}

    def key(label: str) -> tuple[int, str, str]:
        base, _, addition = label.partition("+")
        return first.get(base, 2), base, addition

    return sorted({str(label) for label in labels}, key=key)


def encoder_styles(labels: Iterable[Any]) -> dict[str, dict[str, Any]]:
    """Colour and marker of each encoder, in `encoder_order`. single, vanilla and vanilla+dgr always look the same."""
    order = encoder_order(labels)
    others = [label for label in order if label not in _ENCODER_COLOURS]
    colours = _ENCODER_COLOURS | {name: _OTHER_COLOURS[i % len(_OTHER_COLOURS)] for i, name in enumerate(others)}
    marks = list(_ENCODER_COLOURS)
    marker = {
        name: ENCODER_MARKERS[(marks.index(name) if name in marks else len(marks) + others.index(name)) % 8]
        for name in order
    }
    return {name: {"color": colours[name], "marker": marker[name]} for name in order}


def class_colours(task: Task) -> list[str]:
    """One colour per class, as hex: viridis in class order for ordinal tasks, else Okabe-Ito and its continuation."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    count = task.num_outputs
    if task.kind == "ordinal":
        return [to_hex(c) for c in colormaps["viridis"](np.linspace(0.0, 0.95, count))]
    known = (*OKABE_ITO, *MORE_COLOURS)
    if count <= len(known):
        return list(known[:count])
    return [to_hex(c) for c in colormaps["turbo"](np.linspace(0.02, 0.98, count))]


def ordinal_map(task: Task) -> Colormap:
    """The discrete colour map of an ordinal task's classes, in class order."""
    from matplotlib.colors import ListedColormap

    return ListedColormap(class_colours(task), name=f"ordinal-{task.num_outputs}")


def save(
    figure: Figure, path: str | Path, data: pd.DataFrame | None = None, *, title: str = "", description: str = ""
) -> list[Path]:
    """Write a figure as PDF and PNG, and the frame behind it as CSV, beside each other.

    The same figure gives the same bytes: the files hold no dates. `title` and `description` go into their metadata.

    Args:
        figure: what to write.
        path: where; an ending of .pdf, .png or .csv is dropped.
        data: the numbers that the figure shows.

    Returns:
        The paths written: PDF, PNG and, with data, CSV.
    """
    path = Path(path)
    stem = path.with_suffix("") if path.suffix in (".pdf", ".png", ".csv") else path
    pdf, png, csv = (stem.with_name(stem.name + suffix) for suffix in (".pdf", ".png", ".csv"))
    with context():
        with replacing(pdf) as temporary:
            information = {"Title": title, "Subject": description, "Creator": "reprkit", "CreationDate": None}
            figure.savefig(temporary, format="pdf", metadata=information)
        with replacing(png) as temporary:
            temporary.write_bytes(png_bytes(figure, title=title, description=description))
    if data is None:
        return [pdf, png]
    write_csv(data, csv)
    return [pdf, png, csv]


def png_bytes(figure: Figure, *, dpi: int = 200, title: str = "", description: str = "") -> bytes:
    """A figure as the bytes of a PNG file; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    texts = {"Software": "reprkit", "Title": title, "Description": description}
    with context():
        figure.savefig(buffer, format="png", dpi=dpi, metadata={k: v for k, v in texts.items() if v})
    return buffer.getvalue()


def write_csv(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a result frame as CSV: six significant digits, no index, line feeds, in one step."""
    write_text(path, frame.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
