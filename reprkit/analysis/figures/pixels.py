"""How each kind of dense task is drawn: its truth and predictions, where they differ, and the key to the colours."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis import style
from reprkit.analysis.reporting.typeset import MINUS
from reprkit.tasks import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RIGHT, WRONG = "#EDEDED", "#202020"
"""Of areas: no class has these colours."""

FOUND, MISSED, FALSE = "#4D4D4D", "#0072B2", "#D55E00"
MOST_DEGREES = 45.0
"""Where the scale of angular errors ends."""

_KEY_SIZE = 6.5
_BAR = 0.09
"""Height of a colour bar in inches."""

_KEY_WIDTH = 46
"""Characters that a key's line holds."""


@dataclass(frozen=True)
class Layer:
    """One dense task on n images.

    Attributes:
        task: the task.
        truth: targets as `Task` has them: [n, H, W], or [n, 3, H, W] for normals; missing ones are -1 or NaN.
        predicted: class indices (segmentation), values in the unit of the truth (depth, disparity) or probabilities
            (saliency, edges) [n, H, W]; unit vectors [n, 3, H, W] (normals).
    """

    task: Task
    truth: NDArray[Any]
    predicted: NDArray[Any]

    @property
    def known(self) -> NDArray[np.bool_]:
        """[n, H, W] pixels whose truth is known."""
        return np.asarray(self.task.valid(self.truth), bool)


class Look(ABC):
    """Draws one layer; scales are those of all its images, so that they can be compared."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.known = layer.known

    def truth(self, axes: Axes, i: int) -> None:
        """Draw what is true of image i."""
        if not self.known[i].all():
            hatched(axes)
        self.paint(axes, self.layer.truth[i], self.known[i])

    def prediction(self, axes: Axes, i: int) -> None:
        """Draw what is predicted on image i."""
        self.paint(axes, self.layer.predicted[i], np.ones_like(self.known[i]))

    def error(self, axes: Axes, i: int) -> str:
        """Draw where they differ; returns how much, in words."""
        if not self.known[i].all():
            hatched(axes)
        return self.paint_error(axes, i) if self.known[i].any() else "no truth"

    @abstractmethod
    def paint(self, axes: Axes, values: NDArray[Any], known: NDArray[np.bool_]) -> None:
        """Draw values of one image where `known`."""

    @abstractmethod
    def paint_error(self, axes: Axes, i: int) -> str:
        """Draw the error of image i where the truth is known."""

    @abstractmethod
    def key(self, axes: Axes) -> None:
        """The key to truth and prediction."""

    @abstractmethod
    def error_key(self, axes: Axes) -> None:
        """The key to errors."""

    @property
    def key_lines(self) -> int:
        """Lines of text that the longer key needs."""
        return 3


class Classes(Look):
    """Segmentation: a colour a class, and the pixels of a wrong one."""

    def __init__(self, layer: Layer) -> None:
        super().__init__(layer)
        self.colours = style.class_colours(layer.task)
        present = np.union1d(layer.truth[self.known], layer.predicted)
        self.present = [int(c) for c in present]
        longest = max((len(layer.task.class_names[c]) for c in self.present), default=1)
        self.columns = max(1, min(len(self.present), _KEY_WIDTH // (longest + 4)))

    def truth(self, axes: Axes, i: int) -> None:
        """Draw what is true of image i; void is grey."""
        self.paint(axes, self.layer.truth[i], self.known[i])

    def paint(self, axes: Axes, values: NDArray[Any], known: NDArray[np.bool_]) -> None:
        """A colour a class."""
        table = np.array([_rgb(colour) for colour in (*self.colours, style.VOID)])
        show(axes, table[np.where(known, values, len(self.colours)).astype(int)])

    def error(self, axes: Axes, i: int) -> str:
        """Draw where they differ; void is grey."""
        return self.paint_error(axes, i) if self.known[i].any() else "no truth"

    def paint_error(self, axes: Axes, i: int) -> str:
        """Wrong pixels."""
        known, wrong = self.known[i], self.layer.truth[i] != self.layer.predicted[i]
        table = np.array([_rgb(colour) for colour in (RIGHT, WRONG, style.VOID)])
        show(axes, table[np.where(known, wrong, 2).astype(int)])
        return f"{100 * float(wrong[known].mean()):.0f} % wrong"

    def key(self, axes: Axes) -> None:
        """The classes that occur."""
        names = self.layer.task.class_names
        entries = {names[c]: self.colours[c] for c in self.present}
        if not self.known.all():
            entries["void"] = style.VOID
        patches(axes, entries, columns=self.columns)

    def error_key(self, axes: Axes) -> None:
        """Right and wrong."""
        patches(axes, {"right": RIGHT, "wrong": WRONG}, columns=2)

    @property
    def key_lines(self) -> int:
        """As many as the legend has."""
        return -(-(len(self.present) + 1) // self.columns)


class Values(Look):
    """Depth and disparity: one scale for truth and prediction, that of the truth; and the absolute error."""

    def __init__(self, layer: Layer) -> None:
        super().__init__(layer)
        true = layer.truth[self.known]
        self.low, self.high = _ends(true if len(true) else layer.predicted.ravel())
        self.outside = float(layer.predicted.min()) < self.low, float(layer.predicted.max()) > self.high
        self.errors = np.abs(layer.predicted - layer.truth)
        self.most = float(np.quantile(self.errors[self.known], 0.98)) if len(true) else 0.0
        self.most = self.most or 1.0

    def paint(self, axes: Axes, values: NDArray[Any], known: NDArray[np.bool_]) -> None:
        """Values as colours."""
        masked = np.ma.masked_array(values, ~known)
        show(axes, masked, cmap="viridis", vmin=self.low, vmax=self.high)

    def paint_error(self, axes: Axes, i: int) -> str:
        """Absolute errors as colours."""
        masked = np.ma.masked_array(self.errors[i], ~self.known[i])
        show(axes, masked, cmap="magma", vmin=0.0, vmax=self.most)
        return f"off by {float(masked.mean()):.2g} {self.layer.task.unit}".strip()

    def key(self, axes: Axes) -> None:
        """A colour bar with the unit."""
        below, above = self.outside
        extend = "both" if below and above else "min" if below else "max" if above else "neither"
        bar(axes, "viridis", self.low, self.high, self.layer.task.unit, extend)

    def error_key(self, axes: Axes) -> None:
        """A colour bar from 0."""
        bar(axes, "magma", 0.0, self.most, self.layer.task.unit, "max")


class Normals(Look):
    """Surface normals as colours (n + 1) / 2, and the angle between them."""

    def __init__(self, layer: Layer) -> None:
        super().__init__(layer)
        true, guess = np.nan_to_num(layer.truth).astype(float), layer.predicted.astype(float)
        sine = np.linalg.norm(np.cross(true, guess, axis=1), axis=1)
        self.angles = np.degrees(np.arctan2(sine, (true * guess).sum(1)))

    def paint(self, axes: Axes, values: NDArray[Any], known: NDArray[np.bool_]) -> None:
        """Components as red, green, blue; unknown pixels let the ground through."""
        colours = np.clip((np.nan_to_num(values) + 1) / 2, 0, 1).transpose(1, 2, 0)
        show(axes, np.dstack([colours, known]))

    def paint_error(self, axes: Axes, i: int) -> str:
        """Angles as colours."""
        masked = np.ma.masked_array(self.angles[i], ~self.known[i])
        show(axes, masked, cmap="magma", vmin=0.0, vmax=MOST_DEGREES)
        return f"off by {float(masked.mean()):.0f}°"

    def key(self, axes: Axes) -> None:
        """What red, green and blue are, and how the three axes look."""
        ends = {
            f"{sign}{axis}": tuple(0.5 + half * (i == k) for k in range(3))
            for i, axis in enumerate("xyz")
            for sign, half in (("+", 0.5), (MINUS, -0.5))
        }
        patches(axes, ends, columns=6)

    def error_key(self, axes: Axes) -> None:
        """Degrees."""
        bar(axes, "magma", 0.0, MOST_DEGREES, "degrees", "max")


class Binary(Look):
    """Saliency and edges: probability as darkness; and what is found, missed and false at one half."""

    def paint(self, axes: Axes, values: NDArray[Any], known: NDArray[np.bool_]) -> None:
        """Dark is yes."""
        show(axes, np.ma.masked_array(values, ~known), cmap="Greys", vmin=0.0, vmax=1.0)

    def paint_error(self, axes: Axes, i: int) -> str:
        """Found, missed and false pixels."""
        known = self.known[i]
        true, said = self.layer.truth[i] == 1, self.layer.predicted[i] >= 0.5
        table = np.array([(*_rgb(colour), 1) for colour in ("#FFFFFF", FALSE, MISSED, FOUND)] + [(0, 0, 0, 0)])
        show(axes, table[np.where(known, 2 * true + said, 4)])
        union = int(((true | said) & known).sum())
        return f"IoU {100 * int((true & said & known).sum()) / union:.0f} % at 0.5" if union else "nothing there"

    def key(self, axes: Axes) -> None:
        """Probability."""
        bar(axes, "Greys", 0.0, 1.0, "probability", "neither")

    def error_key(self, axes: Axes) -> None:
        """Found, missed, false."""
        patches(axes, {"found": FOUND, "missed": MISSED, "false": FALSE}, columns=3)


_LOOKS: dict[str, type[Look]] = {
    "segmentation": Classes, "depth": Values, "disparity": Values, "normals": Normals, "saliency": Binary,
    "edges": Binary,
}  # fmt: skip


def look_of(layer: Layer) -> Look:
    """How a layer is drawn."""
    return _LOOKS[layer.task.kind](layer)


def show(axes: Axes, picture: Any, **scale: Any) -> None:
    """An image whose pixels stay pixels, without ticks."""
    axes.imshow(picture, interpolation="nearest", zorder=1, **scale)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(visible=True, color=style.LIGHT, linewidth=0.6)


def hatched(axes: Axes) -> None:
    """A hatched ground, seen where the picture has no value."""
    from matplotlib.patches import Rectangle

    axes.add_patch(
        Rectangle((0, 0), 1, 1, transform=axes.transAxes, facecolor=style.VOID, edgecolor="#8C8C8C", hatch="//////",
                  linewidth=0, zorder=0, label="_no truth")
    )  # fmt: skip


def patches(axes: Axes, colours: dict[str, Any], *, columns: int) -> None:
    """A key of coloured squares, read line by line."""
    from matplotlib.patches import Patch

    axes.axis("off")
    names = list(colours)
    order = [name for column in range(columns) for name in names[column::columns]]
    handles = [Patch(facecolor=colours[name], edgecolor=style.LIGHT, linewidth=0.5, label=name) for name in order]
    axes.legend(
        handles=handles, loc="upper center", ncols=columns, fontsize=_KEY_SIZE, handlelength=0.9, handleheight=0.9,
        handletextpad=0.4, columnspacing=0.8, labelspacing=0.25, borderaxespad=0,
    )  # fmt: skip


def bar(axes: Axes, colours: str, low: float, high: float, unit: str, extend: str) -> None:
    """A horizontal colour bar."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    axes.axis("off")
    share = _BAR / (axes.get_position().height * axes.figure.get_figheight())  # type: ignore[union-attr]
    inner = axes.inset_axes((0.06, 1 - share, 0.88, share))
    drawn = axes.figure.colorbar(
        ScalarMappable(Normalize(low, high), colours), cax=inner, orientation="horizontal", extend=extend
    )
    drawn.ax.locator_params(nbins=4)
    drawn.ax.tick_params(labelsize=_KEY_SIZE, length=2)
    drawn.set_label(unit, fontsize=_KEY_SIZE, labelpad=1)
    drawn.outline.set_linewidth(0.5)


def _ends(values: NDArray[Any]) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _rgb(colour: str) -> tuple[float, float, float]:
    from matplotlib.colors import to_rgb

    return to_rgb(colour)
