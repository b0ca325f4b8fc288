from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from reprkit.analysis import linalg
from reprkit.errors import InputError


def test_results_come_in_order_and_errors_come_through():
    assert list(linalg.ordered_map(lambda i: i * i, iter(range(50)), workers=3)) == [i * i for i in range(50)]
    with pytest.raises(ZeroDivisionError):
        list(linalg.ordered_map(lambda i: 1 // i, range(3), workers=2))


def largest(entries, rows, k):
    """The k largest of each row of flat entries, ties by lower column: [rows][k] (column, value)."""
    chosen = [[] for _ in range(rows)]
    for row, column, value in sorted(
        zip(*(part.tolist() for part in entries), strict=True), key=lambda e: (-e[2], e[1])
    ):
        chosen[row].append((column, value))
    return [found[:k] for found in chosen]


@given(
    st.integers(1, 4), st.integers(1, 300), st.integers(0, 10**6), st.sampled_from([1, 3, 1000]), st.floats(0.0, 1.0),
    st.booleans(),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_the_entries_kept_hold_the_largest_above_the_floor(rows, columns, seed, levels, share, floored):
    rng = np.random.default_rng(seed)
    scores = rng.integers(levels, size=(rows, columns)).astype(np.float32)
    k = max(1, round(share * columns))
    floor = rng.integers(-1, levels, size=rows).astype(np.float32) if floored else np.full(rows, -np.inf, np.float32)
    row, column, value = linalg.top_entries(scores, k, floor)
    assert (np.diff(row) >= 0).all()
    np.testing.assert_array_equal(value, scores[row, column])
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    expected = [[(j, s[j]) for j in best if s[j] > f] for s, best, f in zip(scores, order.tolist(), floor, strict=True)]
    assert largest((row, column, value), rows, k) == expected


def test_few_more_entries_are_kept_than_asked_for():
    scores = np.random.default_rng(0).normal(size=(50, 4096)).astype(np.float32)
    row, _, _ = linalg.top_entries(scores, 20, np.full(50, -np.inf, np.float32))
    assert len(row) < 1.5 * 50 * 20


@pytest.mark.parametrize("device", ["cpu", "torch-cpu"])
@pytest.mark.parametrize("shift", [None, 0, -3, 4, 40])
def test_products_with_their_offset_and_without_their_diagonal(device, shift, monkeypatch):
    monkeypatch.setenv("REPRKIT_DEVICE", device)
    rng = np.random.default_rng(1)
    left = rng.integers(-3, 4, size=(6, 4)).astype(np.float32)
    right, offset = rng.integers(-3, 4, size=(30, 4)).astype(np.float32), rng.integers(5, size=30).astype(np.float32)
    scores = left @ right.T + offset
    floor = np.array([-np.inf, *np.sort(scores[1:4], axis=1)[:, -5], 100, -np.inf], np.float32)
    entries = linalg.top_products(
        left, linalg.on_device(right), 7, offset=linalg.on_device(offset), floor=floor, diagonal=shift
    )
    expected = []
    for i, row in enumerate(scores):
        ranked = sorted((-score, j) for j, score in enumerate(row) if shift is None or j != i + shift)
        expected.append([(j, -score) for score, j in ranked[:7] if -score > floor[i]])
    assert largest(entries, 6, 7) == expected


@pytest.mark.parametrize("device", ["cpu", "torch-cpu"])
def test_kernel_and_scatter_on_each_device(device, monkeypatch):
    monkeypatch.setenv("REPRKIT_DEVICE", device)
    monkeypatch.setattr(linalg, "KERNEL_BLOCK", 7)
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(40, 5)), rng.normal(size=(33, 5))
    np.testing.assert_allclose(linalg.rbf_kernel(a, b, 0.3), np.exp(-0.3 * cdist(a, b) ** 2), rtol=1e-12)
    own = linalg.rbf_kernel(a, a, 0.3, workers=2)
    np.testing.assert_allclose(own, np.exp(-0.3 * cdist(a, a) ** 2), rtol=1e-12)
    np.testing.assert_array_equal(own, own.T)
    assert own.max() <= 1.0
    rounded = a.astype(np.float32)
    np.testing.assert_allclose(
        linalg.rbf_kernel(rounded, rounded, 0.3), np.exp(-0.3 * cdist(rounded, rounded) ** 2), rtol=1e-12
    )
    np.testing.assert_allclose(linalg.scatter(a), sum(np.outer(x, x) for x in a), rtol=1e-12, atol=1e-12)


def test_torch_does_not_round_float32_products_and_keeps_its_setting(monkeypatch):
    import torch

    seen = []
    monkeypatch.setenv("REPRKIT_DEVICE", "torch-cpu")
    monkeypatch.setattr(
        torch.Tensor, "topk", lambda *_, **__: seen.append(torch.get_float32_matmul_precision()) or 1 / 0
    )
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        x = np.ones((2, 2), np.float32)
        with pytest.raises(ZeroDivisionError):
            linalg.top_products(x, linalg.on_device(x), 1, floor=np.zeros(2, np.float32))
        assert seen == ["highest"]
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_the_device_is_what_is_there_or_what_is_asked_for(monkeypatch):
    monkeypatch.delenv("REPRKIT_DEVICE", raising=False)
    for there, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(linalg, "_sees_cuda", lambda there=there: there)
        assert linalg.device() == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPRKIT_DEVICE", "cuda")
        with pytest.raises(InputError, match="sees no CUDA device"):
            linalg.device()
        patch.setenv("REPRKIT_DEVICE", "gpu")
        with pytest.raises(InputError, match="REPRKIT_DEVICE=gpu is unknown; choose from cpu, cuda, torch-cpu"):
            linalg.device()
        patch.setenv("REPRKIT_DEVICE", "torch-cpu")
        assert linalg.device() == "torch-cpu"


@pytest.mark.skipif(any(Path("/dev").glob("nvidia*")), reason="the machine has an NVIDIA device")
def test_without_a_gpu_torch_is_not_imported():
    code = (
        "import sys, numpy as np; from reprkit.analysis import linalg; from reprkit.analysis.neighbors import *;"
        "exact_neighbors(np.eye(4), 2); linalg.rbf_kernel(np.eye(3), np.eye(3), 1.0); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
