from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from reprkit.embeddings import fingerprint_arrays, fingerprint_file, fingerprint_tensors

STATE = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.array(3)}


def test_is_stable_across_releases() -> None:
    content = b"1:a|int64|()|" + (3).to_bytes(8, "little") + b"1:b|float32|(2, 3)|" + STATE["b"].tobytes()
    assert fingerprint_tensors(STATE) == hashlib.sha256(content).hexdigest()


def test_order_strides_byte_order_and_library_do_not_matter() -> None:
    same = [
        dict(reversed(STATE.items())),
        {"b": np.asfortranarray(STATE["b"]), "a": STATE["a"].astype(">i8")},
        {name: torch.from_numpy(np.array(value)) for name, value in STATE.items()},
        {"b": torch.from_numpy(STATE["b"].T.copy()).T, "a": torch.tensor(3)},
        {"b": torch.nn.Parameter(torch.from_numpy(STATE["b"].copy())), "a": torch.tensor(3)},
    ]
    assert {fingerprint_tensors(state) for state in same} == {fingerprint_tensors(STATE)}


def test_names_types_shapes_and_values_matter() -> None:
    b = STATE["b"]
    others = [
        {"b": b},
        {"c": b, "a": STATE["a"]},
        {"b": b.reshape(3, 2), "a": STATE["a"]},
        {"b": b.astype(np.float64), "a": STATE["a"]},
        {"b": b.view(np.int32), "a": STATE["a"]},
        {"b": b + np.float32(1e-6), "a": STATE["a"]},
        {"b": b, "a": np.array([3])},
    ]
    assert len({fingerprint_tensors(state) for state in [STATE, *others]}) == len(others) + 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.bool, torch.int8, torch.complex64])
def test_every_torch_type_is_taken(dtype: torch.dtype) -> None:
    zero, one = (torch.full((3,), value).to(dtype) for value in (0, 1))
    assert fingerprint_tensors({"x": zero}) != fingerprint_tensors({"x": one})
    assert fingerprint_tensors({"x": zero[:0]}) != fingerprint_tensors({"x": zero})


def test_arrays_and_text() -> None:
    assert fingerprint_arrays(["ab", "c"]) != fingerprint_arrays(["a", "bc"])
    assert fingerprint_arrays(np.array(["ab", "c"])) == fingerprint_arrays(np.array([b"ab", b"c"]))
    assert fingerprint_arrays([1], [2]) != fingerprint_arrays([2], [1])
    with pytest.raises(TypeError, match="dtype object"):
        fingerprint_arrays(np.array([object()]))


def test_files(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc" * 10**6)
    assert fingerprint_file(tmp_path / "x") == hashlib.sha256(b"abc" * 10**6).hexdigest()


def test_reading_needs_neither_torch_nor_h5py_before_use() -> None:
    code = "import sys, reprkit.embeddings as e; assert not {'torch', 'h5py', 'numpy'} & set(sys.modules); e.Embeddings"
    check = "; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code + check], check=True)
