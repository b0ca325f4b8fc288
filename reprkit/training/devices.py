"""Choosing where to compute."""

from __future__ import annotations

import os

import torch

from reprkit.errors import InputError
from reprkit.training.ranks import local_rank


def choose_device(name: str = "auto") -> torch.device:
    """`auto` is cuda, then mps, then cpu; anything else is a torch device name.

    Raises:
        InputError: a device that does not exist here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", local_rank()) if "LOCAL_RANK" in os.environ else torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise InputError(f"train.device: '{name}' is not available here; use auto or cpu") from None
    return device


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Mixed precision for the encoder and heads: `bf16` or none (`float32`)."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
