"""What every model is: one shared encoder, and a head a task."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping

from torch import Tensor, nn

Representation = Tensor | tuple[Tensor, ...]


class Heads(nn.Module, Mapping[str, nn.Module]):
    """Heads by task name. Any text is a valid name (`nn.ModuleDict` refuses `type`, `keys` and dots)."""

    def __init__(self, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self._keys = {name: "task:" + name.replace(".", "%2E") for name in heads}
        for name, head in heads.items():
            self.add_module(self._keys[name], head)

    def __getitem__(self, name: str) -> nn.Module:
        module = self._modules[self._keys[name]]
        assert module is not None
        return module

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    __hash__ = nn.Module.__hash__
    __eq__ = object.__eq__


class Model(nn.Module):
    """A shared encoder and heads: every parameter is either shared by all tasks or belongs to one.

    Attributes:
        encoder: what all tasks share.
        heads: task name -> head, which takes what `encode` returns.
        dim: D, width of the representation that frozen analyses read.
    """

    def __init__(self, encoder: nn.Module, dim: int, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.encoder = encoder
        self.dim = dim
        self.heads = Heads(heads)

    @abstractmethod
    def encode(self, images: Tensor) -> Representation:
        """The shared representation z of images [B, channels, H, W]: what heads take."""

    def features(self, z: Representation) -> Tensor:
        """The part of z that frozen analyses read: [B, D], or a map [B, D, h, w]."""
        return z[-1] if isinstance(z, tuple) else z

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Outputs of every head, by task name.

        Args:
            images: [B, channels, H, W].

        Returns:
            task name -> [B, C], or [B, C, h, w] of a dense task.
        """
        z = self.encode(images)
        return {name: head(z) for name, head in self.heads.items()}

    def shared_parameters(self) -> list[nn.Parameter]:
        """Exactly the parameters that all tasks share."""
        return list(self.encoder.parameters())

    def last_shared_weight(self) -> nn.Parameter:
        """The weight of the last layer that all tasks share."""
        return [p for p in self.shared_parameters() if p.ndim > 1][-1]

    def task_parameters(self, task: str) -> list[nn.Parameter]:
        """Exactly the parameters that belong to one task."""
        return list(self.heads[task].parameters())
