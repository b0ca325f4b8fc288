import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from reprkit.data.augment import normalise
from reprkit.embeddings import Embeddings, fingerprint_file, verify
from reprkit.errors import InputError
from reprkit.recipe import EmbedConfig
from reprkit.training import embed
from reprkit.training.checkpoint import load_checkpoint


@pytest.fixture(scope="module")
def dumped(trained, small_digits, tmp_path_factory):
    return embed(trained, tmp_path_factory.mktemp("embed") / "e.h5", dataset=small_digits)


def test_holds_the_eval_mode_representation_of_every_image(dumped, trained, small_digits):
    model, meta = load_checkpoint(trained / "best.safetensors")
    with Embeddings(dumped) as e:
        assert e.label == "vanilla"
        assert e.meta["fingerprints"]["split"] == small_digits.split_fingerprint
        for split in ("train", "val", "test"):
            rows = small_digits.rows(split)
            assert list(e.ids(split)) == list(small_digits.ids[rows])
            images = normalise(torch.from_numpy(small_digits.images[rows]), small_digits.mean, small_digits.std)
            with torch.no_grad():
                z = model.encode(images)
                logits = model.heads["sum"](z)
            np.testing.assert_allclose(e.z(split), z.numpy(), rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(e.logits(split, "sum"), logits.numpy(), rtol=1e-4, atol=1e-4)
            assert (e.targets(split, "sum") == small_digits.targets["sum"][rows]).all()
    verify(dumped)


def test_same_input_same_bytes(dumped, trained, small_digits, tmp_path):
    again = embed(trained, tmp_path / "again.h5", dataset=small_digits)
    assert fingerprint_file(again) == fingerprint_file(dumped)


def test_float16_and_bf16(trained, small_digits, dumped, tmp_path):
    half = embed(trained, tmp_path / "half.h5", dataset=small_digits, config=EmbedConfig(dtype="float16"))
    brain = embed(trained, tmp_path / "bf16.h5", dataset=small_digits, config=EmbedConfig(precision="bf16"))
    with Embeddings(dumped) as a, Embeddings(half) as b, Embeddings(brain) as c:
        np.testing.assert_allclose(a.z("test"), b.z("test"), rtol=2e-3, atol=1e-3)
        assert np.linalg.norm(a.z("test") - c.z("test")) / np.linalg.norm(a.z("test")) < 0.03


def test_other_images_are_refused(trained, small_digits):
    wrong = replace(small_digits, images=small_digits.images[:, :, :8, :8])
    with pytest.raises(InputError, match="was trained on images"):
        embed(trained, dataset=wrong)
    fewer = small_digits.with_tasks(["left"])
    with pytest.raises(InputError, match="'right'"):
        embed(trained, dataset=fewer)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.safetensors", b"", "not a safetensors file"),
        ("b.safetensors", pickle.dumps({"a": 1}), "pickle"),
        ("c.pt", pickle.dumps(print), "pickle"),
    ],
)
def test_what_is_not_a_checkpoint_is_refused(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        embed(tmp_path / name)
    assert name in str(caught.value)


def test_empty_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no best\.safetensors"):
        embed(tmp_path)


def test_killed_and_continued_gives_the_same_file(tmp_path, trained):
    """The same command, killed while it writes, continues its .partial file and ends with the same bytes."""
    code = (
        "import sys, time\n"
        "from reprkit.training import embed, embedder\n"
        "encode = embedder._encode\n"
        "def slow(*a):\n    time.sleep(float(sys.argv[2])); return encode(*a)\n"
        "embedder._encode = slow\n"
        "from reprkit.recipe import EmbedConfig\n"
        "embed(sys.argv[3], sys.argv[1], config=EmbedConfig(batch_size=512))\n"
    )

    def start(out, delay):
        return subprocess.Popen([sys.executable, "-c", code, str(out), str(delay), str(trained)])

    cut, whole = tmp_path / "cut.h5", tmp_path / "whole.h5"
    partial = tmp_path / "cut.h5.partial"
    process = start(cut, 0.3)
    deadline = time.monotonic() + 120
    while not partial.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(2.5)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert partial.exists()
    assert not cut.exists()
    for out in (cut, whole):
        assert start(out, 0).wait() == 0
    assert fingerprint_file(cut) == fingerprint_file(whole)
    assert not partial.exists()
