"""Maps turned onto one another."""

import numpy as np
import pytest

from reprkit.analysis.maps.plane import align


def test_alignment_undoes_rotation_and_reflection():
    reference = np.random.default_rng(2).normal(size=(30, 2))
    turn = np.array([[np.cos(1), -np.sin(1)], [np.sin(1), np.cos(1)]]) @ np.diag([1, -1])
    moved = (reference - 5) @ turn
    assert align(moved, reference) == pytest.approx(reference - reference.mean(axis=0))
