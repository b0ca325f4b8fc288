"""One look for every figure: colours that mean the same everywhere, sizes, and files that repeat byte for byte.

Figures are matplotlib `Figure` objects, never pyplot state: the user's backend, open windows and rcParams stay as
they are.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
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

SEGMENT_COLOURS = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#3C1E00", "#000087", "#783C4B",
    "#1E0FD2", "#5A87FF", "#4B004B", "#B4F0B4", "#2D4BFF", "#0F4B87", "#964B00", "#C3E1FF", "#4B3C00", "#2D7878",
    "#78C378", "#691E5A", "#D20FB4", "#D2D269",
)  # fmt: skip
"""Colours of areas: Okabe & Ito's without black, then each as far as can be from all before it and from `VOID`, for
common colour vision, protanopia and deuteranopia alike (Oklab distance, simulation of Machado et al., 2009)."""

VOID = "#BFBFBF"
"""Where there is no label."""

CLASS_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
GREY = "#6E6E6E"
LIGHT = "#D9D9D9"
TEXT_WIDTH = 7.2
"""Width of a figure in inches that fits a text column of an A4 or letter page."""

METHOD_NAMES = {
    "single": "Single", "vanilla": "Vanilla", "dwa": "DWA", "uncertainty": "Uncertainty", "auto_lambda": "Auto-λ",
    "pcgrad": "PCGrad", "cagrad": "CAGrad", "imtl": "IMTL", "nash_mtl": "Nash-MTL", "imtl_l": "IMTL-L",
    "gradnorm": "GradNorm", "mgda": "MGDA", "graddrop": "GradDrop",
}  # fmt: skip
"""What tables and figures call a method, in the order of the paper's Table 1; after it, methods that it lacks."""

CONTROL_NAMES = {
    "constant": "Constant", "shuffled": "Shuffled labels", "pixels": "Raw pixels", "random_init": "Untrained encoder",
}  # fmt: skip
"""What they call a control."""

ADDITION_NAMES = {"dgr": "DGR", "sam": "SAM", "pta": "PTA"}
"""What they call an addition, in the order in which a method lists them."""

FIGURE_2 = ("single", "vanilla", "auto_lambda", "cagrad", "nash_mtl")
"""Single, and the methods of the paper's Figure 2: shown first where not all can be."""

MOST_PICTURED = 12
"""So many encoders are shown at once where each needs a map or a line of its own."""

_HUES = {
    "single": GREY, "vanilla": "#0072B2", "dwa": "#56B4E9", "uncertainty": "#882255", "auto_lambda": "#CC79A7",
    "pcgrad": "#999933", "cagrad": "#009E73", "imtl": "#E69F00", "nash_mtl": "#332288", "imtl_l": "#AA4499",
    "gradnorm": "#44AA99", "mgda": "#661100", "graddrop": "#5B6B8C",
}  # fmt: skip
_OTHER_COLOURS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", *MORE_COLOURS)
_OTHER_MARKERS = ("^", "v", "P", "X", "p", "o", "s", "D")

ADDITION_MARKERS = {
    (): "s", ("dgr",): "D", ("sam",): "^", ("pta",): "v", ("dgr", "sam"): "P", ("dgr", "pta"): "X",
    ("sam", "pta"): "p", ("dgr", "sam", "pta"): "*",
}  # fmt: skip
_SHADES = {(): 0.0, ("dgr",): -0.4, ("sam",): 0.25, ("pta",): 0.5}
"""How far the hue of a method goes to black (below 0) or to white (above 0) with an addition."""
_DASHES: dict[tuple[str, ...], Any] = {
    (): "-",
    ("dgr",): (0, (5, 1.5)),
    ("sam",): (0, (1, 1.2)),
    ("pta",): (0, (5, 1.5, 1, 1.5)),
}

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
    """An empty figure of the given size in inches, apart from pyplot, laid out so that nothing overlaps.

    Jupyter shows it where a cell ends with it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = _figure_class()(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


@cache
def _figure_class() -> type[Figure]:
    from matplotlib.figure import Figure

    class ShownFigure(Figure):
        """Shows itself in Jupyter, which knows no figures before pyplot is imported."""

        def _repr_png_(self) -> bytes:
            return png_bytes(self, dpi=100)

    return ShownFigure


def split_label(label: str) -> tuple[str, tuple[str, ...]]:
    """`"pcgrad+dgr"` -> `("pcgrad", ("dgr",))`; a label that is no method with additions is a base of its own."""
    base, *additions = label.split("+")
    known = [name for name in ADDITION_NAMES if name in additions]
    return (base, tuple(known)) if base and known == additions else (label, ())


def display(label: str) -> str:
    """What tables and figures call an encoder: `"nash_mtl+dgr"` -> `"Nash-MTL + DGR"`; other labels stay as is."""
    base, additions = split_label(label)
    if base not in METHOD_NAMES:
        return CONTROL_NAMES.get(label, label)
    return " + ".join([METHOD_NAMES[base], *(ADDITION_NAMES[name] for name in additions)])


def row_names(encoders: Sequence[str]) -> list[str]:
    """Names of encoders one below the other, in `encoder_order`: `+ DGR` alone stands below its own method."""
    names = []
    for encoder in encoders:
        base, additions = split_label(encoder)
        below = additions and base in encoders
        names.append("".join(f" + {ADDITION_NAMES[a]}" for a in additions).strip() if below else display(encoder))
    return names


def encoder_order(labels: Iterable[Any]) -> list[str]:
    """Distinct encoder labels in the paper's order, then others by name; each method before its additions."""
    methods, additions = list(METHOD_NAMES), list(ADDITION_NAMES)

    def key(label: str) -> tuple[int, str, int, list[int]]:
        base, added = split_label(label)
        rank = methods.index(base) if base in METHOD_NAMES else len(methods)
        return rank, base, len(added), [additions.index(name) for name in added]

    return sorted({str(label) for label in labels}, key=key)


def pictured(labels: Iterable[Any], most: int = MOST_PICTURED) -> list[str]:
    """At most `most` encoders in `encoder_order`: methods alone and with DGR before others, those of `FIGURE_2` first.

    The choice depends on the labels alone, never on a result.
    """
    order = encoder_order(labels)

    def key(label: str) -> tuple[bool, int]:
        base, additions = split_label(label)
        return additions not in ((), ("dgr",)), FIGURE_2.index(base) if base in FIGURE_2 else len(FIGURE_2)

    return encoder_order(sorted(order, key=key)[:most])


def encoder_styles(labels: Iterable[Any]) -> dict[str, dict[str, Any]]:
    """Colour and marker of each encoder, in `encoder_order`.

    A known method has its own hue, an addition its own shade and marker, whatever else is shown; vanilla+dgr, the
    paper's subject, has a hue of its own. Other labels take what is left, in order.
    """
    others = iter(range(10**6))
    looks = {}
    for label in encoder_order(labels):
        base, additions = split_label(label)
        if label in CONTROL_NAMES:
            hue, marker = GREY, "x"
        elif base in _HUES:
            hue = "#D55E00" if label == "vanilla+dgr" else _shade(_HUES[base], _SHADES.get(additions, -0.7))
            marker = "o" if label == "single" else ADDITION_MARKERS[additions]
        else:
            i = next(others)
            hue, marker = _OTHER_COLOURS[i % len(_OTHER_COLOURS)], _OTHER_MARKERS[i % len(_OTHER_MARKERS)]
        looks[label] = {"color": hue, "marker": marker}
    return looks


def dashes(label: str) -> Any:
    """Line style of an encoder where lines are told apart by it: the addition's."""
    return _DASHES.get(split_label(label)[1], (0, (1, 3)))


def _shade(colour: str, amount: float) -> str:
    """A hex colour mixed with black (amount -1 to 0) or white (0 to 1)."""
    end = 255 if amount > 0 else 0
    parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(part + abs(amount) * (end - part)):02X}" for part in parts)


def class_colours(task: Task) -> list[str]:
    """One colour per class, as hex: viridis in class order for ordinal tasks, else Okabe-Ito and its continuation.

    Areas (segmentation) have `SEGMENT_COLOURS`.
    """
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    count = task.num_outputs
    if task.kind == "ordinal":
        return [to_hex(c) for c in colormaps["viridis"](np.linspace(0.0, 0.95, count))]
    known = SEGMENT_COLOURS if task.kind == "segmentation" else (*OKABE_ITO, *MORE_COLOURS)
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
