"""Images beside what a model's own heads say of them: truth, prediction and error of every dense task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis import style
from reprkit.analysis.figures.pixels import Layer, Look, look_of, show
from reprkit.tasks import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Layer", "in_words", "panel_figures"]

ROWS = 8
"""Rows of panels on a page."""

PANEL, ALONE = 1.45, 1.8
"""Width of a panel in inches: beside others, and where no task is dense."""

BESIDE = 4
"""Images beside each other where no task is dense."""

LETTER = 0.054
"""Width of a letter of small print in inches, at most."""

MARGIN, SPACE, GAP = 0.06, 0.05, 0.09
"""Inches: around all, between panels, and in addition before each task."""

LINE = 0.125
"""Height of a line of small print in inches."""


def panel_figures(
    images: NDArray[np.uint8], layers: Sequence[Layer], titles: Sequence[str], *, rows: int = ROWS
) -> Iterator[Figure]:
    """Pages of panels: a row an image, with truth, prediction and error of every layer beside it.

    Classes keep their colours and values their scales from page to page. Without layers, there are four images a row.

    Args:
        images: [n, C, H, W] uint8, C = 1 or 3.
        layers: dense tasks on the same images.
        titles: [n] text under each image, of one or more lines.
        rows: rows a page.

    Raises:
        ValueError: the numbers of images, titles and layers' rows differ.
    """
    counts = {len(images), len(titles), *(len(part) for layer in layers for part in (layer.truth, layer.predicted))}
    if len(counts) != 1:
        raise ValueError(f"images, titles and layers differ in length: {sorted(counts)}")
    looks = [look_of(layer) for layer in layers]
    step = rows if looks else rows * BESIDE
    for start in range(0, len(images), step):
        with style.context():
            yield _page(images, looks, titles, range(start, min(start + step, len(images))))


def in_words(task: Task, output: NDArray[Any], target: float) -> str:
    """What a head says of one image, such as `sum: 10 (54 %), truth 12`; the truth is named where it differs.

    Args:
        task: classification, ordinal or regression.
        output: [num_outputs] logits, or the standardised value.
        target: class index or value; -1 or NaN if missing.
    """
    known = bool(task.valid(np.asarray(target)))
    if not task.is_discrete:
        value = float(output[0]) * task.std + task.mean
        unit = f" {task.unit}" if task.unit else ""
        return f"{task.name}: {value:.3g}{unit}, truth {f'{target:.3g}' if known else 'unknown'}"
    odds = np.exp(output - output.max())
    said, names = int(output.argmax()), task.class_names
    text = f"{task.name}: {names[said]} ({100 * float(odds[said] / odds.sum()):.0f} %)"
    if not known:
        return f"{text}, truth unknown"
    return text if said == int(target) else f"{text}, truth {names[int(target)]}"


def _page(images: NDArray[np.uint8], looks: Sequence[Look], titles: Sequence[str], shown: range) -> Figure:
    """A page; all places are computed, since an automatic layout of a hundred axes takes seconds."""
    panel = PANEL if looks else ALONE
    high = panel * images.shape[2] / images.shape[3]
    room = int((3 * PANEL if looks else ALONE) / LETTER)  # under truth and prediction there is no other text
    texts = {i: "\n".join(part for line in titles[i].splitlines() for part in wrap(line, room)) for i in shown}
    lines = max(text.count("\n") + 1 for text in texts.values())
    beside = 1 if looks else min(BESIDE, len(shown))
    lefts = [MARGIN + k * (panel + SPACE) for k in range(beside)]
    lefts += [lefts[0] + k * (panel + SPACE) + (1 + (k - 1) // 3) * GAP for k in range(1, 1 + 3 * len(looks))]
    row, rows = high + LINE * lines + 0.12, -(-len(shown) // beside)
    head = 0.25 if looks else MARGIN
    key = LINE * max((look.key_lines for look in looks), default=0)
    hatched = any(not look.known[list(shown)].all() and look.layer.task.kind != "segmentation" for look in looks)
    foot = (key + 0.1 if looks else 0.0) + 0.2 * hatched + MARGIN
    width, height = max(lefts[-1] + panel + MARGIN, 4.0), head + row * rows + foot
    figure = style.new_figure(width, height)
    figure.set_layout_engine("none")

    def axes_at(left: float, top: float, wide: float, tall: float) -> Axes:
        return figure.add_axes((left / width, 1 - (top + tall) / height, wide / width, tall / height))

    for place, i in enumerate(shown):
        at, column = divmod(place, beside)
        top = head + row * at
        axes = axes_at(lefts[column], top, panel, high)
        show(axes, _rgb_image(images[i]), **({"cmap": "gray", "vmin": 0, "vmax": 255} if images.shape[1] == 1 else {}))
        axes.set_xlabel(texts[i], loc="left", fontsize=6.5, labelpad=2)
        for number, look in enumerate(looks):
            panels = [axes_at(left, top, panel, high) for left in lefts[1 + 3 * number : 4 + 3 * number]]
            look.truth(panels[0], i)
            look.prediction(panels[1], i)
            panels[2].set_xlabel(look.error(panels[2], i), fontsize=6.5, labelpad=2)
            if place == 0:
                panels[0].set_title(look.layer.task.name, loc="left", fontsize=8.5, pad=3)
                panels[1].set_title("prediction", fontsize=7.5, fontweight="normal", pad=3)
                panels[2].set_title("error", fontsize=7.5, fontweight="normal", pad=3)
    for number, look in enumerate(looks):
        left, _, error = lefts[1 + 3 * number : 4 + 3 * number]
        look.key(axes_at(left, head + row * rows, 2 * panel + SPACE, key))
        look.error_key(axes_at(error, head + row * rows, panel, key))
    if hatched:
        figure.text(0.5, MARGIN / height, "Hatched: no truth.", fontsize=7.5, color=style.GREY, ha="center")
    return figure


def _rgb_image(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[C, H, W] -> [H, W] or [H, W, 3]."""
    return image[0] if len(image) == 1 else image[:3].transpose(1, 2, 0)
