import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from reprkit.errors import InputError
from reprkit.models import build_encoder, build_model, load_encoder_weights
from reprkit.recipe import ModelConfig
from reprkit.tasks import Task

TASKS = (Task("age.group", "ordinal", 7), Task("type", "classification", 2), Task("keys", "classification", 3))


@pytest.mark.parametrize(
    ("name", "dim"), [("convnet", 128), ("resnet18", 512), ("resnet50", 2048), ("mobilenet_v2", 1280)]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_encoders_give_pooled_representations(name, dim, channels):
    encoder, size = build_encoder(name, channels)
    assert size == dim
    assert encoder.eval()(torch.zeros(2, channels, 32, 32)).shape == (2, dim)


def test_every_parameter_is_shared_or_belongs_to_one_task():
    model = build_model(ModelConfig(), TASKS, 3)
    groups = [model.shared_parameters(), *(model.task_parameters(task.name) for task in TASKS)]
    counted = [id(p) for group in groups for p in group]
    assert sorted(counted) == sorted(id(p) for p in model.parameters())
    outputs = model(torch.zeros(2, 3, 16, 16))
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        "age.group": (2, 7), "type": (2, 2), "keys": (2, 3)
    }  # fmt: skip


def test_heads_end_without_activation():
    model = build_model(ModelConfig(head_hidden=64), TASKS, 3)
    assert (model(torch.randn(64, 3, 16, 16))["type"] < 0).any()
    linear = build_model(ModelConfig(head_hidden=0), TASKS, 3)
    assert [tuple(p.shape) for p in linear.task_parameters("type")] == [(2, 128), (2,)]


def weights_of(encoder):
    return {name: value + 1 for name, value in encoder.state_dict().items()}


def test_loads_torchvision_and_reprkit_files(tmp_path):
    source, _ = build_encoder("resnet18")
    torchvision_like = {**weights_of(source), "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    torch.save(torchvision_like, tmp_path / "tv.pth")
    own = {f"encoder.{k}": v for k, v in weights_of(source).items()}
    save_file({**own, "heads.task:a.out.weight": torch.zeros(3)}, tmp_path / "own.safetensors")
    for file in ("tv.pth", "own.safetensors"):
        encoder, _ = build_encoder("resnet18")
        load_encoder_weights(encoder, tmp_path / file)
        for name, value in encoder.state_dict().items():
            assert torch.equal(value, torchvision_like[name]), (file, name)


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


def test_weights_that_are_not_are_refused(tmp_path, capsys):
    encoder, _ = build_encoder("resnet18")
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Evil()))
    torch.save({"a": Evil()}, tmp_path / "evil2.pth")
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "other.pth")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00")
    wide = weights_of(build_encoder("resnet18", in_channels=1)[0])
    torch.save(wide, tmp_path / "shape.pth")
    for name, words in {
        "evil.pth": "pickle", "evil2.pth": "pickle", "none.pth": "no state_dict", "other.pth": "no tensor",
        "cut.safetensors": "damaged", "shape.pth": "shape", "absent.pth": "no such",
    }.items():  # fmt: skip
        with pytest.raises(InputError, match=words) as caught:
            load_encoder_weights(encoder, tmp_path / name)
        assert name in str(caught.value)
    assert "code ran" not in capsys.readouterr().out
