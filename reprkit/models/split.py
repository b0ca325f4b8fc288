"""Split: one shared encoder, one head a task (hard parameter sharing)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor, nn

from reprkit.models.encoders import build_encoder
from reprkit.models.heads import LinearHead, MLPHead
from reprkit.recipe import ModelConfig
from reprkit.tasks import Task


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


class Split(nn.Module):
    """An encoder whose pooled representation feeds every head.

    Attributes:
        encoder: [B, channels, H, W] -> [B, D].
        heads: task name -> module [B, D] -> [B, C].
        dim: D.
    """

    def __init__(self, encoder: nn.Module, dim: int, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.encoder = encoder
        self.dim = dim
        self.heads = Heads(heads)

    def encode(self, images: Tensor) -> Tensor:
        """The shared representation z: [B, D]."""
        return self.encoder(images)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Outputs of every head, by task name."""
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


def build_model(config: ModelConfig, tasks: Sequence[Task], in_channels: int) -> Split:
    """A freshly initialised Split model; draws from torch's global generator.

    Args:
        config: encoder and head settings; `config.weights` is not loaded here.
        tasks: the tasks to predict.
        in_channels: image channels.
    """
    encoder, dim = build_encoder(config.encoder, in_channels)
    heads: dict[str, nn.Module] = {
        task.name: MLPHead(dim, task.num_outputs, config.head_hidden)
        if config.head_hidden
        else LinearHead(dim, task.num_outputs)
        for task in tasks
    }
    return Split(encoder, dim, heads)
