"""`reprkit inspect`: what a file is."""

from __future__ import annotations

import json
from pathlib import Path

from reprkit.errors import InputError


def describe_path(path: Path) -> str:
    """A few lines for people on a checkpoint, an embeddings file, a recipe or a run folder.

    Raises:
        InputError: nothing that reprkit knows, or a damaged file.
    """
    if path.is_dir():
        return _describe_folder(path)
    from reprkit import embeddings
    from reprkit.embeddings.dispatch import split_name

    if not split_name(path)[0].is_file():
        raise InputError(f"{path}: no such file or folder")
    if path.suffix == ".safetensors":
        return _describe_checkpoint(path)
    if path.suffix in (".yaml", ".yml"):
        from reprkit.config import load_recipe

        recipe = load_recipe(path)
        methods, seeds = ", ".join(recipe.methods), ", ".join(map(str, recipe.seeds))
        return f"recipe '{recipe.name}': {methods} on {recipe.data.name}, {recipe.model.encoder}; seeds {seeds}"
    return "\n\n".join(embeddings.describe(each) for each in embeddings.choices(path) or [str(path)])


def _describe_checkpoint(path: Path) -> str:
    from reprkit.training.checkpoint import read_header

    meta = read_header(path)
    recipe = meta["recipe"]
    score = "none" if meta["val_score"] is None else f"{meta['val_score']:.4f}"
    lines = [
        f"checkpoint of {meta['method']}, seed {meta['seed']}, epoch {meta['epoch']} (step {meta['step']})",
        f"encoder: {recipe['model']['encoder']} on images {'x'.join(map(str, meta['image_shape']))}",
        f"validation score, mean over tasks: {score}",
        f"data: {recipe['data']['name']}, fingerprint {meta['fingerprints']['dataset'][:16]}, "
        f"split {meta['fingerprints']['split'][:16]}",
    ]
    lines += [f"task {task['name']}: {task['kind']}, {task['num_outputs']} outputs" for task in meta["tasks"]]
    return "\n".join(lines)


def _describe_folder(path: Path) -> str:
    pieces = path / "pieces.json"
    if pieces.is_file():
        records = json.loads(pieces.read_text())
        names = sorted({record["encoder"] for record in records})
        seeds = sorted({record["seed"] for record in records})
        report = path / "report.html"
        return "\n".join(
            [
                f"run of {', '.join(names)} with seeds {', '.join(map(str, seeds))}: {len(records)} encoders",
                f"report: {report}" if report.is_file() else "no report yet: the same `reprkit run` continues it",
            ]
        )
    best = path / "best.safetensors"
    if best.is_file():
        state = "finished" if (path / "training.json").is_file() else "unfinished: the same command continues it"
        return f"run folder ({state})\n{_describe_checkpoint(best)}"
    raise InputError(f"{path}: not a folder that `reprkit run` or `reprkit train` wrote")
