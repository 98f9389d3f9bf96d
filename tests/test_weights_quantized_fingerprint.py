"""What was computed by one scheme or kernel is never used with another, though the weights are the same."""

from pathlib import Path

import numpy as np
import pytest
import torch

from glmflash import EncodedImage, Pipeline
from glmflash.errors import CheckpointError
from glmflash.model import Glm4v
from glmflash.ops.int8 import choose_kernel, fbgemm, onednn
from glmflash.quant import QuantizationConfig
from glmflash.weights import load_model, save_pretrained
from glmflash.weights.fingerprint import fingerprint


def load(folder: Path, quantize=None) -> Glm4v:
    return load_model(folder, quantize=quantize, device="cpu")


def test_schemes_layers_and_kernels_count(nano_checkpoint: Path) -> None:
    configs = [
        None,
        QuantizationConfig(),
        QuantizationConfig(scheme="w8a8"),
        QuantizationConfig(match="language_model"),
        QuantizationConfig(embeddings="int8"),
        QuantizationConfig(kernel="reference"),
    ]
    assert len({fingerprint(load(nano_checkpoint, config)) for config in configs}) == len(configs)
    twice = [fingerprint(load(nano_checkpoint, QuantizationConfig(scheme="w8a8"))) for _ in range(2)]
    assert len(set(twice)) == 1


def test_saving_changes_nothing(nano_checkpoint: Path, tmp_path: Path) -> None:
    model = load(nano_checkpoint, "int8")
    again = load(save_pretrained(model, tmp_path, source=nano_checkpoint))
    assert fingerprint(again) == fingerprint(model)


def test_processors_that_round_to_fewer_levels_count(nano_checkpoint: Path, monkeypatch) -> None:
    modules = {"fbgemm": fbgemm, "onednn": onednn}
    kernel = modules.get(choose_kernel(torch.device("cpu")).name)
    if kernel is None:
        pytest.skip("needs a kernel for x86 processors")
    names = set()
    for levels in (127, 63):
        monkeypatch.setattr(kernel, "_levels", lambda levels=levels: levels)
        names.add(fingerprint(load(nano_checkpoint, "int8")))
    assert len(names) == 2


def test_other_weights_and_scales_count(nano_checkpoint: Path) -> None:
    model = load(nano_checkpoint, "int8")
    layer = model.lm_head
    before = fingerprint(model)
    layer.weight_scale[3] *= 1.001
    scaled = fingerprint(model)
    layer.weight_sum[3] += 1
    assert len({before, scaled, fingerprint(model)}) == 3


@pytest.mark.slow
def test_a_picture_encoded_under_another_scheme_is_refused(nano_checkpoint: Path, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (56, 56, 3), dtype=np.uint8)
    path = tmp_path / "page.safetensors"
    with Pipeline.from_pretrained(nano_checkpoint, device="cpu", quantize="int8") as pipe:
        page = pipe.encode(picture)
        page.save(path)
        saved = pipe.save_pretrained(tmp_path / "saved")
        answer = pipe("Hi", images=page, max_new_tokens=4, temperature=0.0).token_ids
    for folder, quantize in ((nano_checkpoint, None), (nano_checkpoint, "w8a8"), (saved, "w8a8")):
        with Pipeline.from_pretrained(folder, device="cpu", quantize=quantize) as pipe:
            with pytest.raises(CheckpointError, match="another model"):
                EncodedImage.load(path, pipe)
            with pytest.raises(ValueError, match="encode"):
                pipe("Hi", images=page, max_new_tokens=4)
    for folder, quantize in ((nano_checkpoint, "int8"), (saved, None)):
        with Pipeline.from_pretrained(folder, device="cpu", quantize=quantize) as pipe:
            page = EncodedImage.load(path, pipe)
            assert pipe("Hi", images=page, max_new_tokens=4, temperature=0.0).token_ids == answer
