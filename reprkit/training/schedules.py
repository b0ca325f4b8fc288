"""How the learning rate falls over a training: factors of its first value."""

from __future__ import annotations

import math


def schedule_factor(name: str, share: float) -> float:
    """Factor of the learning rate after a share of all steps, from 1 at the start.

    Args:
        name: constant; cosine, (1 + cos(pi t)) / 2 (Loshchilov and Hutter, SGDR, ICLR 2017, without restarts); poly,
            (1 - t)^0.9 (Chen et al., DeepLab, TPAMI 2018, section 3); step, a tenth after each third, as ImageNet's 30
            of 90 epochs (He et al., CVPR 2016).
        share: t, in [0, 1].

    Raises:
        ValueError: another name.
    """
    match name:
        case "constant":
            return 1.0
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * share))
        case "poly":
            return (1 - share) ** 0.9
        case "step":
            return 0.1 ** min(int(3 * share + 1e-9), 2)
    raise ValueError(f"unknown schedule {name!r}")
