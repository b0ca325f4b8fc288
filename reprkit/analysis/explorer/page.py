"""From an `Exploration` to one HTML file that needs no network."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Sequence
from contextlib import ExitStack
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reprkit.analysis import style
from reprkit.analysis.explorer.gather import Exploration, gather
from reprkit.analysis.explorer.sprites import Sprites
from reprkit.files import write_text
from reprkit.recipe import TsneConfig
from reprkit.tasks import Task

if TYPE_CHECKING:
    from reprkit.embeddings import Embeddings

SCALE_STEPS = 32
"""Colours of the sequential scale of real values."""


class Page:
    """A finished page: `write` it, or let a notebook show it."""

    def __init__(self, text: str, height: int = 760) -> None:
        self.text = text
        self.height = height

    def write(self, path: str | Path) -> Path:
        """Write the page in one step; returns the path."""
        write_text(path, self.text)
        return Path(path)

    def _repr_html_(self) -> str:
        """The page in a frame of its own, so that it and the notebook leave each other alone."""
        framed = html.escape(self.text, quote=True)
        return (
            f'<iframe srcdoc="{framed}" width="100%" height="{self.height}" style="border:1px solid #ccc"'
            ' sandbox="allow-scripts allow-downloads"></iframe>'
        )


def explore(
    *embeddings: Embeddings | str | Path,
    sprites: Sprites | None = None,
    config: TsneConfig | None = None,
    probe: str = "linear",
    title: str = "",
) -> Page:
    """A page that shows several encoders' maps of the same test samples, linked.

    Args:
        embeddings: open embeddings files or their paths; the first is the reference.
        sprites: thumbnails by sample id (see `pack_sprites`); None shows none.
        config: samples, perplexity and iterations of the maps.
        probe: whose predictions colour the maps; empty for none.
        title: of the page; empty names the encoders.

    Raises:
        InputError: unreadable files, or files of other samples.
    """
    from reprkit.embeddings import Embeddings

    with ExitStack() as stack:
        files = [stack.enter_context(Embeddings(item)) if isinstance(item, str | Path) else item for item in embeddings]
        return make_page(gather(files, config=config, probe=probe), sprites=sprites, title=title)


def make_page(found: Exploration, *, sprites: Sprites | None = None, title: str = "") -> Page:
    """The page of what `gather` found. Every text in it stays text, whatever it holds."""
    from jinja2 import Environment

    title = title or "Embeddings: " + ", ".join(style.display(view.label) for view in found.views)
    templates = resources.files("reprkit.analysis") / "templates"
    parts = {name: (templates / f"explorer.{name}").read_text(encoding="utf-8") for name in ("css", "js")}
    template = Environment(autoescape=True).from_string((templates / "explorer.html.j2").read_text(encoding="utf-8"))
    data = json.dumps(_record(found, sprites), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # Inside a script element only "<" could end it or open a comment; JSON may write it as an escape.
    return Page(template.render(title=title, data=data.replace("<", "\\u003c"), **parts))


def _record(found: Exploration, sprites: Sprites | None) -> dict[str, Any]:
    return {
        "ids": [str(name) for name in found.ids],
        "probe": found.probe,
        "tasks": [_task(task, found.targets[name]) for name, task in found.tasks.items()],
        "scale": _scale(),
        "views": [
            {
                "label": style.display(view.label),
                "caption": view.caption,
                "x": _packed(_unit(view.points)[:, 0]),
                "y": _packed(_unit(view.points)[:, 1]),
                "predicted": {task: _packed(values) for task, values in view.predicted.items()},
                "kept": None if view.kept is None else _packed(view.kept),
            }
            for view in found.views
        ],
        "sprites": None if sprites is None else _sprites(sprites, found.ids),
    }


def _task(task: Task, targets: NDArray[np.float64]) -> dict[str, Any]:
    known = targets[np.isfinite(targets)]
    ends = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    return {
        "name": task.name,
        "kind": task.kind,
        "unit": task.unit,
        "classes": list(task.class_names) if task.is_discrete else [],
        "colours": style.class_colours(task) if task.is_discrete else [],
        "low": ends[0],
        "high": ends[1],
        "targets": _packed(targets),
    }


def _scale() -> list[str]:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colour) for colour in colormaps["viridis"](np.linspace(0, 1, SCALE_STEPS))]


def _unit(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The map centred, its longer side from -1 to 1."""
    low, high = points.min(axis=0), points.max(axis=0)
    half = float((high - low).max()) / 2 or 1.0
    return np.asarray((points - (low + high) / 2) / half)


def _packed(values: NDArray[np.float64] | Sequence[float]) -> str:
    """Float32 in little-endian order, as base64."""
    return base64.b64encode(np.asarray(values, dtype="<f4").tobytes()).decode("ascii")


def _sprites(sprites: Sprites, ids: Sequence[str]) -> dict[str, Any]:
    place = [sprites.place.get(str(name), -1) for name in ids]
    sheets = ["data:image/webp;base64," + base64.b64encode(sheet).decode("ascii") for sheet in sprites.sheets]
    return {"side": sprites.side, "per_row": sprites.per_row, "sheets": sheets, "place": place}
