"""UTKFace: aligned faces whose file names carry age, gender and ethnicity (Zhang, Song, Qi, CVPR 2017).

`<age>_<gender>_<race>_<datetime>.jpg.chip.jpg`, in a folder (at any depth) or a tar. An optional `manifest.csv`
beside them (columns file, group; optionally status, subset) joins near duplicates and names subsets.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reprkit.data.base import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    ImageDataset,
    content_fingerprint,
    select_columns,
    split_fingerprint,
)
from reprkit.data.cache import pixels, scan
from reprkit.data.decode import check_side, transform_record
from reprkit.data.sources import FileSource, Source, TarSource, images_below
from reprkit.data.splits import HASH_RULE, check_splits, hash_split, merge_groups
from reprkit.errors import InputError
from reprkit.files import json_digest
from reprkit.tasks import Task

DEFAULT_TASKS = ("age", "gender", "ethnicity")
AGE_BINS = ("0-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60+")
GENDERS = ("male", "female")
ETHNICITIES = ("White", "Black", "Asian", "Indian", "Others")
MAX_AGE = 120
MANIFEST = "manifest.csv"
_NAME = re.compile(r"(\d{1,3})_(\d)_(\d)_(.+)")
_PLAIN_REST = re.compile(r"\d{17}\.jpg(\.chip\.jpg)?")
_MORE = "more faces are needed for a 70/10/20 split"
_LOOKS_LIKE = "<age>_<gender>_<race>_<datetime>.jpg.chip.jpg"


@dataclass(frozen=True)
class Face:
    """What a file name says: age in years, indices into `GENDERS` and `ETHNICITIES`, and whether it is odd."""

    age: int
    gender: int
    race: int
    odd: bool

    @property
    def labels(self) -> tuple[int, int, int]:
        """(age bin, gender, race): two images of one face should agree on them."""
        return min(self.age // 10, len(AGE_BINS) - 1), self.gender, self.race


def load_utkface(root: str | None, image_size: int, *, subset: str = "", cache_dir: Path | None = None) -> ImageDataset:
    """Faces with the tasks age (7 ordinal bins of years), gender, ethnicity and age_years (regression).

    Bins are left-closed: 0-9, 10-19, ..., 60+. Duplicates (same content, or one `group` of the manifest) stay on
    one side of every split; if they disagree on age bin, gender or ethnicity, all of them are skipped. Splits are
    made on all usable faces, so a subset keeps every face on the side it has in the whole set.

    Args:
        root: folder with images at any depth, a tar, or a folder that holds one tar.
        image_size: pixels of the sides after resizing.
        subset: keep the rows whose manifest `subset` equals this; empty keeps all.
        cache_dir: see `reprkit.data.cache.cache_root`.

    Raises:
        InputError: root is missing or holds no usable face, or the manifest does not fit.
    """
    check_side(image_size)
    source, manifest_path = find_source(root)
    manifest = read_manifest(manifest_path) if manifest_path is not None else {}
    if subset and not manifest:
        raise InputError(f"data.subset: '{subset}' needs a {MANIFEST} beside {source.label}")
    digests = scan(source, "utkface", cache_dir)
    faces, key_of, skipped = usable_faces(sorted(digests), manifest, source.label)
    names = sorted(faces)

    content = [digests[key_of[name]] for name in names]
    given = [manifest.get(name, {}).get("group", "") for name in names]
    groups = merge_groups(content, [f"manifest {g}" if g else "" for g in given])
    stratum = np.array([faces[name].labels[0] for name in names])
    conflicted = _conflicts(names, groups, faces, manifest)
    kept = np.array([name not in conflicted for name in names])
    split = np.zeros(len(names), dtype=np.uint8)
    split[kept] = hash_split([g for g, k in zip(groups, kept, strict=True) if k], stratum[kept])
    skipped += [(name, "duplicates of this face disagree on a label") for name in sorted(conflicted)]

    if subset:
        chosen = np.array([manifest.get(name, {}).get("subset", "") == subset for name in names])
        if not (chosen & kept).any():
            known = sorted({row.get("subset", "") for row in manifest.values()} - {""})
            raise InputError(
                f"data.subset: '{subset}' is not in {manifest_path}; choose from {', '.join(known) or 'none'}"
            )
        kept &= chosen
        # What lies outside the subset is no news to someone who asked for it.
        skipped = [entry for entry in skipped if manifest.get(entry[0], {}).get("subset", "") == subset]
    rows = np.flatnonzero(kept)
    check_splits(split[rows], source=source.label, mend=_MORE)
    array, broken = pixels(
        source, [key_of[names[i]] for i in rows], [content[i] for i in rows], image_size, "utkface", cache_dir
    )
    rows = np.array([i for i in rows.tolist() if key_of[names[i]] not in broken], dtype=np.int64)
    skipped += [(key.rsplit("/", 1)[-1], reason) for key, reason in broken.items()]

    ids = np.array([names[i] for i in rows])
    targets = select_columns(_targets(names, faces), rows)
    check_splits(split[rows], source=source.label, mend=_MORE)
    return ImageDataset(
        name="utkface",
        tasks=(
            Task("age", "ordinal", len(AGE_BINS), AGE_BINS),
            Task("gender", "classification", len(GENDERS), GENDERS),
            Task("ethnicity", "classification", len(ETHNICITIES), ETHNICITIES),
            Task("age_years", "regression", 1, unit="years"),
        ),
        images=array,
        targets=targets,
        ids=ids,
        split=split[rows],
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        fingerprint=content_fingerprint(ids, [content[i] for i in rows], targets),
        split_fingerprint=split_fingerprint(ids, split[rows]),
        transform_fingerprint=json_digest(transform_record(image_size, IMAGENET_MEAN, IMAGENET_STD)),
        split_rule=HASH_RULE.format(stratum="age bin"),
        skipped=tuple(sorted(skipped)),
        notes=_notes(ids, faces, [groups[i] for i in rows], [content[i] for i in rows], manifest, subset),
    )


def find_source(root: str | None) -> tuple[Source, Path | None]:
    """The images behind `root`, and the manifest beside them if there is one.

    Raises:
        InputError: nothing there, or more than one tar.
    """
    if not root:
        raise InputError("data.root: utkface needs a folder or tar of the original images; name it with --data")
    path = Path(root).expanduser()
    if not path.exists():
        raise InputError(f"{root}: does not exist; name the folder or tar of UTKFace with --data")
    if path.is_file():
        beside = path.with_name(MANIFEST)
        return TarSource(path), beside if beside.is_file() else None
    manifest = path / MANIFEST if (path / MANIFEST).is_file() else None
    files = images_below(path)
    if files:
        return FileSource(str(path), files), manifest
    tars = sorted(p for p in path.iterdir() if p.name.lower().endswith((".tar", ".tar.gz", ".tgz")) and p.is_file())
    if len(tars) > 1:
        raise InputError(f"{path}: holds several tars ({', '.join(t.name for t in tars)}); name one with --data")
    if not tars:
        raise InputError(f"{path}: holds neither images nor a tar; name the folder or tar of UTKFace with --data")
    return TarSource(tars[0]), manifest


def parse_name(name: str) -> Face | str:
    """The labels in a file name, or the reason why there are none.

    >>> parse_name("23_1_4_20170103212350123.jpg.chip.jpg")
    Face(age=23, gender=1, race=4, odd=False)
    >>> parse_name("39_1_20170116174525125.jpg.chip.jpg")
    'a field is missing from the name'
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return "a field is missing from the name" if re.match(r"\d+_", name) else "the name carries no labels"
    age, gender, race = (int(match[i]) for i in (1, 2, 3))
    if age > MAX_AGE or gender >= len(GENDERS) or race >= len(ETHNICITIES):
        return "a label in the name is out of range"
    return Face(age, gender, race, odd=_PLAIN_REST.fullmatch(match[4]) is None)


def usable_faces(
    keys: Sequence[str], manifest: Mapping[str, Mapping[str, str]], label: str
) -> tuple[dict[str, Face], dict[str, str], list[tuple[str, str]]]:
    """Sort image keys into faces by file name (with the key of each) and skipped ones with their reason.

    Raises:
        InputError: no usable face.
    """
    faces: dict[str, Face] = {}
    key_of: dict[str, str] = {}
    skipped: list[tuple[str, str]] = []
    for key in keys:
        name = key.rsplit("/", 1)[-1]
        face = parse_name(name)
        if isinstance(face, Face) and manifest.get(name, {}).get("status") == "bad_name":
            face = "the manifest marks its name as bad"
        if isinstance(face, str):
            skipped.append((name, face))
        elif name in key_of:
            skipped.append((key, "a file of this name is in another folder, too; the first counts"))
        else:
            faces[name], key_of[name] = face, key
    if not faces:
        found = f"{len(keys):,} images, none" if keys else "no images"
        raise InputError(f"{label}: {found} named like {_LOOKS_LIKE}; point --data to the original UTKFace files")
    return faces, key_of, skipped


def read_manifest(path: Path) -> dict[str, dict[str, str]]:
    """Rows of a manifest by file name.

    Raises:
        InputError: it is not a CSV with the columns file and group.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle, restval="")
            missing = {"file", "group"} - set(reader.fieldnames or ())
            if missing:
                raise InputError(f"{path}: no column {', '.join(sorted(missing))}; mend it or move it away")
            return {row["file"]: {k: v for k, v in row.items() if isinstance(v, str)} for row in reader}
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise InputError(f"{path}: not a readable CSV ({error}); mend it or move it away") from None


def _targets(names: Sequence[str], faces: Mapping[str, Face]) -> dict[str, np.ndarray]:
    labels = np.array([faces[name].labels for name in names], dtype=np.int64).reshape(-1, 3)
    years = np.array([faces[name].age for name in names], dtype=np.float64)
    return {**{task: labels[:, i].copy() for i, task in enumerate(DEFAULT_TASKS)}, "age_years": years}


def _conflicts(
    names: Sequence[str], groups: Sequence[str], faces: Mapping[str, Face], manifest: Mapping[str, Mapping[str, str]]
) -> set[str]:
    """Names in groups whose members disagree: no score should depend on which of two answers is believed."""
    labels = defaultdict(set)
    for name, group in zip(names, groups, strict=True):
        labels[group].add(faces[name].labels)
        if manifest.get(name, {}).get("status") == "dup_conflict":
            labels[group].add((-1, -1, -1))
    return {name for name, group in zip(names, groups, strict=True) if len(labels[group]) > 1}


def _notes(
    ids: np.ndarray,
    faces: Mapping[str, Face],
    groups: Sequence[str],
    content: Sequence[str],
    manifest: Mapping[str, object],
    subset: str,
) -> tuple[str, ...]:
    notes = [f"the manifest's subset {subset} only"] if subset else []
    odd = [name for name in ids.tolist() if faces[name].odd]
    if odd:
        notes.append(f"{len(odd):,} odd names with usable labels kept: {', '.join(odd[:5])}{', ...' * (len(odd) > 5)}")
    copies = len(ids) - len(set(groups))
    if copies:
        exact = len(ids) - len(set(content))
        notes.append(f"{copies:,} images repeat a face ({exact:,} exactly) and stay on one side with it")
    if manifest:
        unknown = sum(name not in manifest for name in ids.tolist())
        if unknown:
            notes.append(f"{unknown:,} images are not in {MANIFEST}; only exact duplicates are known for them")
    return tuple(notes)
