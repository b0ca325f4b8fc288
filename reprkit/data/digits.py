"""The embedded default: two real handwritten digits on one canvas, after MultiMNIST.

The digits are scikit-learn's `load_digits` (UCI "Optical Recognition of Handwritten Digits", 1,797 drawings of
8x8 pixels). They are split first and composed afterwards, so no drawing appears in two splits. Overlaying two
digits follows Sabour et al., "Dynamic Routing Between Capsules" (2017), and Sener and Koltun, "Multi-Task
Learning as Multi-Objective Optimization" (2018); their sum is a third, ordinal task.
"""

from __future__ import annotations

import hashlib

import numpy as np

from reprkit.data.base import SPLITS, ImageDataset, content_fingerprint, split_fingerprint
from reprkit.files import json_digest
from reprkit.tasks import Task

CANVAS = 12
SHIFT = 1
CONTRAST = 0.6
NOISE = 0.05
COUNTS = (6000, 1500, 3000)
SOURCE_SHARES = (0.6, 0.2, 0.2)
SPLIT_RULE = "1,797 source digits split 60/20/20 within each class by a fixed permutation, then composed, v1"
_STREAM = 20240916


def load_digits_pairs() -> ImageDataset:
    """6,000 / 1,500 / 3,000 canvases uint8 [1, 12, 12] with tasks left, right (10 classes) and sum (0..18).

    Everything is drawn from frozen NumPy streams: the same bytes on every machine.
    """
    from sklearn.datasets import load_digits

    source = load_digits()
    drawings, labels = source.images.astype(np.float64) / 16.0, source.target.astype(np.int64)
    images, left, right, split = [], [], [], []
    ids: list[str] = []
    for code, (pool, count) in enumerate(zip(split_source(labels), COUNTS, strict=True)):
        canvases, pairs = compose(drawings, pool, count, np.random.RandomState(_STREAM + 1 + code))
        images.append(canvases)
        left.append(labels[pairs[:, 0]])
        right.append(labels[pairs[:, 1]])
        ids.extend(f"{SPLITS[code]}-{i:05d}" for i in range(count))
        split.append(np.full(count, code, dtype=np.uint8))
    pixels = np.concatenate(images)[:, None]
    targets = {"left": np.concatenate(left), "right": np.concatenate(right)}
    targets["sum"] = targets["left"] + targets["right"]
    sides = np.concatenate(split)
    train = pixels[sides == 0] / 255.0
    mean, std = round(float(train.mean()), 4), round(float(train.std()), 4)
    contents = [hashlib.sha256(image.tobytes()).hexdigest() for image in pixels]
    return ImageDataset(
        name="digits",
        tasks=(
            Task("left", "classification", 10),
            Task("right", "classification", 10),
            Task("sum", "ordinal", 19),
        ),
        images=pixels,
        targets=targets,
        ids=np.array(ids),
        split=sides,
        mean=(mean,),
        std=(std,),
        fingerprint=content_fingerprint(ids, contents, targets),
        split_fingerprint=split_fingerprint(ids, sides),
        transform_fingerprint=json_digest({"kind": "none", "mean": [mean], "std": [std]}),
        split_rule=SPLIT_RULE,
    )


def split_source(labels: np.ndarray) -> list[np.ndarray]:
    """Indices of the source digits of train, val and test: disjoint, stratified by class.

    Args:
        labels: [N] classes.
    """
    stream = np.random.RandomState(_STREAM)
    parts: list[list[np.ndarray]] = [[], [], []]
    for label in np.unique(labels):
        rows = stream.permutation(np.flatnonzero(labels == label))
        cuts = np.floor(np.cumsum(SOURCE_SHARES[:2]) * len(rows)).astype(int)
        for part, piece in zip(parts, np.split(rows, cuts), strict=True):
            part.append(piece)
    return [np.sort(np.concatenate(part)) for part in parts]


def compose(
    drawings: np.ndarray, pool: np.ndarray, count: int, stream: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """Overlay random pairs of drawings: the first towards the top left, the second towards the bottom right.

    Each drawing gets its own shift and contrast; where strokes cross, the brighter one shows; Gaussian noise
    is added last.

    Args:
        drawings: [M, 8, 8] in [0, 1].
        pool: indices of the drawings to use.
        count: number of canvases.
        stream: source of every random draw.

    Returns:
        uint8 [count, CANVAS, CANVAS] canvases and int [count, 2] indices of the drawings (left, right).
    """
    side = drawings.shape[1]
    pairs = pool[stream.randint(len(pool), size=(count, 2))]
    shifts = stream.randint(SHIFT + 1, size=(count, 2, 2))
    contrast = stream.uniform(CONTRAST, 1.0, size=(count, 2))
    noise = stream.normal(0.0, NOISE, size=(count, CANVAS, CANVAS))
    canvas = np.zeros((count, CANVAS, CANVAS))
    every = np.arange(count)[:, None, None]
    for which in range(2):
        corner = shifts[:, which] if which == 0 else CANVAS - side - shifts[:, which]
        down = corner[:, 0, None, None] + np.arange(side)[None, :, None]
        across = corner[:, 1, None, None] + np.arange(side)[None, None, :]
        ink = drawings[pairs[:, which]] * contrast[:, which, None, None]
        canvas[every, down, across] = np.maximum(canvas[every, down, across], ink)
    return np.clip(np.rint((canvas + noise) * 255.0), 0, 255).astype(np.uint8), pairs
