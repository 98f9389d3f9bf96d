"""INT8 made while reading is what rounding the loaded model gives; the rest stays as narrow as it can."""

import json
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from quantized_folders import assert_same, tensors_of
from safetensors.torch import save_file

from glmflash.errors import CheckpointError, ParameterError
from glmflash.model import NoCache
from glmflash.quant import QuantizationConfig, QuantizedEmbedding, QuantizedLinear, card, quantize_
from glmflash.testing import random_checkpoint
from glmflash.weights import load_model

EMBED, HEAD = "model.language_model.embed_tokens.weight", "lm_head.weight"


@pytest.fixture(scope="module")
def half(tmp_path_factory) -> Path:
    """A checkpoint in bfloat16, as the published one is."""
    return random_checkpoint(tmp_path_factory.mktemp("half"), dtype="bfloat16")


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request) -> Iterator[int]:
    with processors(request.param):
        yield request.param


@contextmanager
def processors(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
        assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(before)


def changed(checkpoint: Path, folder: Path, change, **config) -> Path:
    tensors = tensors_of(checkpoint)
    change(tensors)
    folder.mkdir(exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    data = json.loads((checkpoint / "config.json").read_text()) | config
    (folder / "config.json").write_text(json.dumps(data))
    return folder


def logits(model) -> torch.Tensor:
    ids = torch.arange(5)
    return model(model.embed(ids), ids.expand(3, 5), NoCache([5]))


@pytest.mark.parametrize("scheme", ["int8", "w8a8"])
def test_quantised_while_reading_as_afterwards(half: Path, scheme: str, threads) -> None:
    model = load_model(half, quantize=scheme, device="cpu")
    other = load_model(half, dtype="float32", device="cpu")
    quantize_(other, scheme)
    for layer, wanted in zip(card(model).layers, card(other).layers, strict=True):
        assert (layer.name, layer.scheme, layer.error) == (wanted.name, scheme, wanted.error)
        assert layer.bytes_before == 2 * layer.shape[0] * layer.shape[1]
    assert not any(isinstance(module, torch.nn.Linear) for module in model.modules())
    assert torch.equal(logits(model), logits(other))
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_dtypes_beside_int8(half: Path) -> None:
    auto = load_model(half, quantize="int8", device="cpu")
    kinds = {name: tensor.dtype for name, tensor in auto.named_parameters()}
    assert kinds.pop(EMBED) == torch.bfloat16  # as stored; rows are cast when they are looked up
    assert set(kinds.values()) == {torch.float32}
    assert auto.embed(torch.arange(3)).dtype == auto.dtype == torch.float32
    same = load_model(half, quantize="int8", device="cpu", dtype="float32")
    assert same.model.language_model.embed_tokens.weight.dtype == torch.bfloat16
    asked = load_model(half, quantize="int8", device="cpu", dtype="bfloat16")
    assert {tensor.dtype for tensor in asked.parameters()} == {torch.bfloat16}
    assert logits(asked).dtype == torch.bfloat16


def test_a_table_wider_than_the_rest_is_narrowed(nano_checkpoint: Path) -> None:
    model = load_model(nano_checkpoint, quantize="int8", device="cpu", dtype="bfloat16")
    assert model.model.language_model.embed_tokens.weight.dtype == torch.bfloat16


def test_int8_embeddings(half: Path) -> None:
    config = QuantizationConfig(scheme="w8a8", embeddings="int8")
    model = load_model(half, quantize=config, device="cpu")
    table = model.model.language_model.embed_tokens
    assert isinstance(table, QuantizedEmbedding)
    exact = tensors_of(half)[EMBED].float()
    assert (table(torch.arange(512)) - exact).norm() / exact.norm() < 0.01
    assert torch.isfinite(logits(model)).all()


@pytest.mark.parametrize("embeddings", ["auto", "int8"])
@pytest.mark.parametrize("match", [None, r"mlp"], ids=["all", "mlp"])
def test_a_head_that_is_the_embeddings(half: Path, tmp_path: Path, match, embeddings) -> None:
    folder = changed(half, tmp_path, lambda t: t.pop(HEAD), tie_word_embeddings=True)
    stored = tensors_of(half)[EMBED]
    config = QuantizationConfig(match=match, embeddings=embeddings)
    model = load_model(folder, quantize=config, device="cpu")
    table = model.model.language_model.embed_tokens
    if match is None:  # from the same tensor; the table stays
        assert isinstance(model.lm_head, QuantizedLinear)
        exact = model.lm_head.unpack() * model.lm_head.weight_scale[:, None]
        assert (exact - stored.float()).norm() / stored.float().norm() < 0.01
    else:
        assert torch.equal(model.lm_head.weight, stored.float())
        assert (model.lm_head.weight is table.weight) is (embeddings == "auto")
    if embeddings == "auto":
        assert torch.equal(table.weight.float(), stored.float())
    assert torch.isfinite(logits(model)).all()


def test_gate_and_up_stored_apart(half: Path, tmp_path: Path) -> None:
    def split(tensors) -> None:
        for name in [name for name in tensors if name.endswith("gate_up_proj.weight")]:
            gate, up = tensors.pop(name).chunk(2)
            tensors |= {
                name.replace("gate_up", "gate"): gate.clone(),
                name.replace("gate_up", "up"): up.clone(),
            }

    one = load_model(half, quantize="int8", device="cpu")
    two = load_model(changed(half, tmp_path, split), quantize="int8", device="cpu")
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, two.state_dict()[name]), name
    for layer, other in zip(card(one).layers, card(two).layers, strict=True):
        assert layer.error == pytest.approx(other.error, rel=1e-4)
        assert layer.bytes_before == other.bytes_before


def test_some_layers_by_another_kernel(half: Path) -> None:
    config = QuantizationConfig(match=r"visual.*mlp", kernel="reference")
    layers = card(load_model(half, quantize=config, device="cpu")).layers
    assert len(layers) == 6
    assert {layer.kernel for layer in layers} == {"reference"}


def test_a_match_that_finds_nothing(half: Path) -> None:
    with pytest.raises(ParameterError, match=r"match: is 'decoder', found in none.*lm_head|visual"):
        load_model(half, quantize=QuantizationConfig(match="decoder"), device="cpu")


def test_a_kernel_for_other_devices(half: Path, monkeypatch) -> None:
    from glmflash.ops.int8 import registry

    for kernel in registry.KERNELS:
        if kernel.why_not(torch.device("cpu")):
            with pytest.raises(ParameterError, match="kernel"):
                load_model(half, quantize=QuantizationConfig(kernel=kernel.name), device="cpu")


def test_weights_that_are_not_finite(half: Path, tmp_path: Path, threads) -> None:
    def damage(tensors) -> None:
        tensors[HEAD][3, 5] = float("nan")
        tensors["model.visual.merger.proj.weight"][0, 0] = float("inf")
        tensors["model.language_model.layers.0.self_attn.q_proj.bias"][0] = float("-inf")
        tensors[EMBED][1, 1] = float("nan")

    with pytest.raises(CheckpointError, match="4 problem") as caught:
        load_model(changed(half, tmp_path, damage), quantize="int8", device="cpu")
    for name, kind in {HEAD: "float32", "merger.proj.weight": "float32", "q_proj.bias": "float32",
                       EMBED: "bfloat16"}.items():  # fmt: skip
        assert f"{name}: holds NaN or infinity as {kind}" in str(caught.value)


def test_progress_counts_bytes_in_the_callers_thread(half: Path, threads) -> None:
    seen, names = [], set()

    def watch(done: int, total: int) -> None:
        seen.append((done, total))
        names.add(threading.current_thread())

    load_model(half, quantize="int8", device="cpu", progress=watch)
    done = [done for done, _ in seen]
    assert done == sorted(done)
    assert done[-1] == seen[0][1] == sum(tensor.nbytes for tensor in tensors_of(half).values())
    assert names == {threading.current_thread()}
    assert not [thread for thread in threading.enumerate() if "loader" in thread.name]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupt_ends_the_work(half: Path, threads, error: type[BaseException]) -> None:
    calls = 0

    def stop(done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise error

    with pytest.raises(error):
        load_model(half, quantize="int8", device="cpu", progress=stop)
    assert calls == 3
    until = time.monotonic() + 10
    while [thread for thread in threading.enumerate() if "loader" in thread.name]:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert load_model(half, quantize="int8", device="cpu")


def test_filters_of_warnings_stay_as_they_were(half: Path) -> None:
    before = list(warnings.filters)
    with processors(4):
        for _ in range(3):
            load_model(half, quantize="int8", device="cpu")
    assert warnings.filters == before


def test_the_checkpoint_may_vanish_afterwards(tmp_path: Path, half: Path) -> None:
    """Nothing of the model is a view of a file that somebody may cut."""
    folder = changed(half, tmp_path, lambda t: None)
    model = load_model(folder, quantize=QuantizationConfig(kernel="reference"), device="cpu")
    before = logits(model)
    (folder / "model.safetensors").write_bytes(b"")
    assert torch.equal(logits(model), before)


def test_float16_weights_and_int8_rows_agree(tmp_path: Path) -> None:
    folder = random_checkpoint(tmp_path, dtype="float16")
    model, exact = load_model(folder, quantize="int8", device="cpu"), load_model(folder, device="cpu")
    assert model.model.language_model.embed_tokens.weight.dtype == torch.float16
    assert (logits(model) - logits(exact)).norm() / logits(exact).norm() < 0.05
    other = load_model(folder, quantize="int8", device="cpu")
    assert_same(model, other)
