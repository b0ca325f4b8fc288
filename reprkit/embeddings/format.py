"""Layout of the embeddings file (HDF5), format version 1.

| object                      | stored as                           | meaning                                          |
| --------------------------- | ----------------------------------- | ------------------------------------------------ |
| `/` attr `format`           | fixed text `reprkit-embeddings`     | tells the file from any other HDF5 file          |
| `/` attr `format_version`   | int                                 | readers refuse versions newer than they know     |
| `/` attr `complete`         | 0 or 1                              | 1 once every row is written and was read back    |
| `/` attr `identity`         | fixed text, SHA-256                 | of all that is known before encoding (writer)    |
| `/meta/run`                 | JSON                                | `label`, `seed`, `trained_tasks`                 |
| `/meta/schema`              | JSON                                | `tasks`: list of task records; `dim`; `dtype`;   |
|                             |                                     | `groups`: separator, where rows come in groups   |
| `/meta/config`              | JSON                                | the recipe                                       |
| `/meta/fingerprints`        | JSON                                | `checkpoint`, `dataset`, `split`, `transform`    |
| `/meta/provenance`          | JSON                                | free: versions, device, precision                |
| `/splits/<split>/ids`       | fixed-length UTF-8, [N]             | sample ids, unique in the file, dataset order    |
| `/splits/<split>/z`         | float32 or float16, [N, D]          | frozen embeddings, all finite                    |
| `/splits/<split>/targets/T` | int64 [N] (-1) or float64 [N] (NaN) | targets of task T; the value for "missing"       |
| `/splits/<split>/logits/T`  | float32, [N, C]; optional           | the encoder's own head on task T                 |
| `/splits/<split>/rows_done` | int64, [1]                          | rows of z and logits that are committed          |
| `/dummies/T/about`          | JSON; optional                      | `activation` of the dummy heads of training      |
| `/dummies/T/<layer>`        | float32, [M, ...]; optional         | their fixed weights, see `TrainingDummies`       |

`<split>` is `train`, `val` or `test`; a split without rows is absent. Rows come in groups where several are of one
thing, such as pixels of an image: the part of an id before the last `groups` names it. `/dummies` is there for encoders
trained with DGR against linear or ReLU two-layer heads, and readers may pass it over. T is the task's name with `%`,
`/` and a leading `.` percent-encoded. JSON is UTF-8 with sorted keys in a uint8 dataset (attributes are limited to
64 KiB in older libraries). Row data is chunked by rows, about 2 MiB a chunk, with a Fletcher-32 checksum and without
compression, which would save 7 to 33 % of the size for 3 to 50 times the writing time. All is little-endian and
holds no time stamp: equal content gives an equal file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from reprkit.errors import InputError

FORMAT = "reprkit-embeddings"
FORMAT_VERSION = 1
SPLITS = ("train", "val", "test")
META = ("run", "schema", "config", "fingerprints", "provenance")
FINGERPRINTS = ("checkpoint", "dataset", "split", "transform")
CHUNK_BYTES = 2 << 20
MAX_ID_BYTES = 1024
Z_DTYPES = {"float32": "<f4", "float16": "<f2"}
LOGITS_DTYPE = "<f4"
INT_TARGET_DTYPE = "<i8"
FLOAT_TARGET_DTYPE = "<f8"


def chunk_rows(rows: int, row_bytes: Iterable[int]) -> int:
    """Rows in a chunk of a split: about 2 MiB for its widest dataset, at least 1, at most all `rows`."""
    return max(1, min(rows, CHUNK_BYTES // max(row_bytes)))


def link_name(task: str) -> str:
    """The HDF5 link name of a task: HDF5 reads `/` as a path separator and `.` as the group itself."""
    name = task.replace("%", "%25").replace("/", "%2F").replace("\0", "%00")
    return "%2E" + name[1:] if name.startswith(".") else name


def encode_json(value: Any, what: str) -> bytes:
    """Canonical JSON bytes of `value`; `what` names it if it is not plain JSON."""
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{what} cannot be stored as JSON ({error}); use plain str, int, float, list and dict"
        ) from None


def decode_json(raw: np.ndarray, what: str) -> dict[str, Any]:
    """Read a uint8 array written from `encode_json`; it must hold an object."""
    try:
        value = json.loads(raw.tobytes().decode("utf-8"))
    except (ValueError, RecursionError):
        raise InputError(f"{what} is not valid JSON; the file is damaged or was not written by reprkit") from None
    if not isinstance(value, dict):
        raise InputError(f"{what} is not a JSON object; the file is damaged or was not written by reprkit")
    return value
