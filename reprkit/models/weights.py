"""Loading an encoder's weights from a local file, without running code from it."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from reprkit.errors import InputError

_CLASSIFIERS = ("fc.", "classifier.", "heads.")


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a `.safetensors` file or of a torch file (`weights_only`), on the CPU.

    Raises:
        InputError: the file is missing, damaged, or holds anything but tensors.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{file}: no such weights file; give a torchvision .pth or a reprkit .safetensors")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError):
        raise InputError(
            f"{file}: not a readable weights file (damaged, or a pickle that could run code); "
            "save it again as a state_dict or as safetensors"
        ) from None
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise InputError(f"{file}: holds no state_dict of tensors; save `model.state_dict()`")
    return loaded


def load_encoder_weights(encoder: nn.Module, path: str | Path) -> None:
    """Fill `encoder` from a torchvision state_dict or a reprkit checkpoint at `path`; classifiers in it are ignored.

    Raises:
        InputError: unreadable file, or tensors missing or of another shape, naming the first.
    """
    tensors = {name.removeprefix("module."): value for name, value in read_tensors(path).items()}
    own = {name.removeprefix("encoder."): value for name, value in tensors.items() if name.startswith("encoder.")}
    tensors = own or {k: v for k, v in tensors.items() if not k.startswith(_CLASSIFIERS)}
    wanted = encoder.state_dict()
    for name, value in wanted.items():
        if name not in tensors and not name.endswith("num_batches_tracked"):
            raise InputError(f"{path}: has no tensor '{name}'; it belongs to another encoder than model.encoder")
        if name in tensors and tensors[name].shape != value.shape:
            raise InputError(
                f"{path}: '{name}' has shape {list(tensors[name].shape)}, the encoder needs {list(value.shape)}"
            )
    encoder.load_state_dict({name: tensors.get(name, value) for name, value in wanted.items()})
