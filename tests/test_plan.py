"""Plans of memory: exact where bytes can be counted, held to the network's own code where they cannot."""

import json
from pathlib import Path

import huggingface_hub
import pytest
import torch
from torch import nn

from glmflash import Pipeline
from glmflash.config import ModelConfig
from glmflash.engine.delivery import Delivery
from glmflash.engine.events import Observers
from glmflash.engine.settings import Settings
from glmflash.engine.stats import Accounts
from glmflash.engine.storage import make_runner
from glmflash.errors import CapacityError, ConfigError, DownloadError, ParameterError
from glmflash.model import Glm4v
from glmflash.plan import Part, Plan, plan, require_room
from glmflash.plan.job import BLOCK_SIZE, STEP_TOKENS, VISION_CACHE
from glmflash.quant import QuantizationConfig, QuantizedEmbedding, QuantizedLinear
from glmflash.testing import config_dict, random_checkpoint
from glmflash.weights import load_model, resolve

FLASH = 20_585_554_944  # 10,292,777,472 parameters of bfloat16


@pytest.fixture(scope="module")
def flash(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the published config.json, and nothing else."""
    folder = tmp_path_factory.mktemp("flash")
    (folder / "config.json").write_text(json.dumps(config_dict("flash")))
    return folder


def weights(given: Plan, name: str) -> int:
    return sum(part.nbytes for part in given.parts if part.kind == "weights" and part.name == name)


def held(model: Glm4v) -> int:
    """Bytes of weights that a model holds."""
    packed = [m for m in model.modules() if isinstance(m, QuantizedLinear | QuantizedEmbedding)]
    inside = {id(tensor) for module in packed for tensor in module.buffers(recurse=False)}
    tensors = {id(t): t.nbytes for t in [*model.parameters(), *model.buffers()] if id(t) not in inside}
    return sum(tensors.values()) + sum(module.nbytes for module in packed)


def test_the_published_sizes(flash: Path) -> None:
    given = plan(flash, device="cpu", memory="24 GB")
    assert given.weights == FLASH
    assert weights(given, "vision tower") == 2 * 892_498_432
    assert weights(given, "decoder") == 2 * 8_158_765_056
    assert weights(given, "embeddings") == weights(given, "vocabulary head") == 2 * 620_756_992
    assert given.kv == 8192 * 40_960
    assert given.but(kv_dtype="int8").kv == 8192 * 21_120
    assert given.but(context=8193, batch=3).kv == 3 * 8208 * 40_960  # whole blocks


def test_the_published_sizes_as_int8(flash: Path) -> None:
    # The plain kernel keeps the same on every machine; others differ by 4 to 8 bytes an output.
    config = QuantizationConfig(kernel="reference")
    given = plan(flash, quantize=config, device="cpu", memory="16 GB")
    assert given.weights == 11_026_017_280
    assert weights(given, "embeddings") == 2 * 620_756_992
    assert given.fits
    assert given.kv == 8192 * 81_920  # float32 beside INT8
    assert plan(flash, quantize="int8", device="cpu", memory="16 GB").weights < 1.002 * given.weights
    assert plan(flash, quantize="w8a8", device="cuda", memory="16 GB").fits


def test_a_card_need_not_be_here(flash: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    given = plan(flash, device="cuda", memory="24 GB")
    assert (given.device, given.dtype, given.weights) == ("cuda", "bfloat16", FLASH)
    with pytest.raises(ParameterError, match='memory="16 GB"'):
        plan(flash, device="cuda")


@pytest.mark.parametrize(
    ("size", "stored", "dtype", "quantize"),
    [
        ("nano", "float32", "auto", None),
        ("nano", "bfloat16", "auto", None),
        ("nano", "float16", "auto", None),
        ("nano", "bfloat16", "float32", None),
        ("nano", "bfloat16", "auto", "int8"),
        ("nano", "bfloat16", "bfloat16", "w8a8"),
        ("nano", "float32", "bfloat16", "int8"),
        ("nano", "bfloat16", "auto", QuantizationConfig(embeddings="int8")),
        ("nano", "bfloat16", "auto", QuantizationConfig(match="language_model", kernel="reference")),
        ("ocr-nano", "bfloat16", "auto", "int8"),
    ],
)
@pytest.mark.parametrize("tied", [False, True])
def test_weights_are_what_loading_makes(
    tmp_path: Path, size: str, stored: str, dtype: str, quantize: str | QuantizationConfig | None, tied: bool
) -> None:
    folder = random_checkpoint(tmp_path, size, dtype=stored, overrides={"tie_word_embeddings": tied})
    given = plan(folder, dtype=dtype, quantize=quantize, device="cpu", context=64)
    model = load_model(folder, dtype=dtype, quantize=quantize, device="cpu", progress=False)
    assert given.weights == held(model)
    assert given.dtype == str(model.dtype).removeprefix("torch.")
    for file in folder.glob("*.safetensors*"):
        file.unlink()
    assert plan(folder, dtype=dtype, quantize=quantize, device="cpu", context=64).parts == given.parts


def test_a_saved_int8_checkpoint(nano_checkpoint: Path, tmp_path: Path) -> None:
    config = QuantizationConfig(scheme="w8a8", match="language_model")
    with Pipeline.from_pretrained(nano_checkpoint, quantize=config, device="cpu", progress=False) as pipe:
        folder = pipe.save_pretrained(tmp_path / "small")
        expected = held(pipe.engine.model)
    given = plan(folder, device="cpu", context=64)
    assert (given.weights, given.quantize) == (expected, "w8a8")
    for file in folder.glob("*.safetensors*"):
        file.unlink()
    assert plan(folder, device="cpu", context=64).weights == expected


def test_what_an_engine_takes_by_itself(nano_model: Glm4v) -> None:
    runner = make_runner(
        nano_model, Settings(kv_memory="1 MB"), Delivery(Accounts(), Observers(())), vocab_size=500
    )
    assert runner.store.block_size == BLOCK_SIZE
    assert runner.scheduler.max_step_tokens == STEP_TOKENS["cpu"]
    assert runner.vision.max_bytes == VISION_CACHE


def test_total_and_peaks(flash: Path) -> None:
    given = plan(flash, device="cpu", memory="24 GB", quantize="int8")
    assert given.total == sum(part.nbytes for part in given.parts)
    assert {part.kind for part in given.parts} == {"weights", "program", "cache", "step"}
    assert given.weights < given.peak_loading < 1.03 * given.weights  # large tensors are read first
    without = given.but(image_tokens=0)
    assert "vision" not in " ".join(part.name for part in without.parts if part.kind == "cache")
    assert without.activations < given.activations


@pytest.mark.parametrize("memory", ["13 GB", "16 GB", "20 GB"])
@pytest.mark.parametrize("kv_dtype", ["auto", "int8"])
def test_the_longest_context(flash: Path, memory: str, kv_dtype: str) -> None:
    given = plan(flash, device="cpu", quantize="int8", memory=memory, kv_dtype=kv_dtype, image_tokens=1024)
    longest = given.max_context
    assert 0 < longest <= 131_072
    assert given.but(context=longest).fits
    assert longest == 131_072 or not given.but(context=longest + 16).fits
    assert plan(flash, device="cpu", memory="16 GB").max_context == 0


def test_check_says_what_would_fit(flash: Path) -> None:
    plan(flash, device="cpu", memory="24 GB").check()
    with pytest.raises(CapacityError, match=r'needs 20\.\d+ GiB.*14\.90 GiB.*quantize="int8" takes'):
        plan(flash, device="cpu", memory="16 GB").check()
    short = plan(flash, device="cpu", memory="14 GB", quantize="int8", context=131_072)
    with pytest.raises(CapacityError, match=f"context={short.max_context} takes"):
        short.check()
    with pytest.raises(CapacityError, match=r'quantize="int8", kv_dtype="int8".*context=\d+ takes'):
        plan(flash, device="cpu", memory="12 GB", batch=8).check()
    with pytest.raises(CapacityError, match="nothing known here"):
        plan(flash, device="cpu", memory="8 GB").check()


def test_what_is_proposed_fits(flash: Path) -> None:
    given = plan(flash, device="cpu", memory="16 GB", quantize="int8", batch=8, context=32_768)
    with pytest.raises(CapacityError) as caught:
        given.check()
    said = str(caught.value)
    for change, smaller in {
        'kv_dtype="int8"': given.but(kv_dtype="int8"),
        "image_tokens=1024": given.but(image_tokens=1024),
        "batch=1": given.but(batch=1),
        f"context={given.max_context}": given.but(context=given.max_context),
    }.items():
        assert smaller.fits == (f"{change} takes" in said)
    assert "batch=1 takes" in said


@pytest.mark.parametrize(
    "wrong",
    [
        {"context": 131_073}, {"context": 0}, {"context": -5}, {"context": 2.5}, {"context": True},
        {"batch": 0}, {"batch": "many"}, {"image_tokens": -1}, {"kv_dtype": "float32"}, {"dtype": "int4"},
        {"dtype": 8}, {"device": "tpu"}, {"device": 1.5}, {"quantize": "int4"}, {"memory": "16"},
        {"memory": -1}, {"quantize": QuantizationConfig(match="nowhere")},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_not_allowed(flash: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(ParameterError):
        plan(flash, **{"device": "cpu", **wrong})  # type: ignore[arg-type]


def test_where_a_configuration_comes_from(flash: Path, tmp_path: Path) -> None:
    config = ModelConfig.from_dict(config_dict("flash"))
    assert plan(config, device="cpu", memory=1).parts == plan(flash, device="cpu", memory=1).parts
    assert plan("tiny", device="cpu").context == 4096  # as much as it takes
    with pytest.raises(ConfigError):
        plan(tmp_path)
    with pytest.raises(DownloadError):
        plan(tmp_path / "nowhere")
    with pytest.raises(ParameterError):
        plan(3)  # type: ignore[arg-type]


def test_of_a_hub_id_only_the_configuration_is_fetched(flash: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fetch(name: str, **options: object) -> str:
        calls.append((name, options))
        return str(flash)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert plan("someone/flash", revision="main", device="cpu").model == "someone/flash"
    ((name, options),) = calls
    assert (name, options["revision"]) == ("someone/flash", "main")
    assert not any("safetensors" in str(pattern) for pattern in options["allow_patterns"])  # type: ignore[attr-defined]


def test_as_text_and_html(tmp_path: Path) -> None:
    folder = tmp_path / "<b>"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config_dict("nano")))
    given = plan(folder, device="cpu", context=512, memory="1 GB")
    lines = str(given).splitlines()
    assert lines[0].endswith("<b> on cpu, context 512, batch 1")
    assert len(lines) == 1 + len(given.parts) + 4
    assert "yes, up to a context of 4096" in lines[-1]
    ends = {line.rstrip(" #").find("GiB") for line in lines[1 : 1 + len(given.parts)]}
    assert len(ends) == 1  # aligned
    html = given._repr_html_()
    assert "&lt;b&gt; on cpu" in html
    assert "<b>" not in html
    assert "_job" not in repr(given)
    assert isinstance(given.parts[0], Part)


def _system(root: Path, *, available: int, swap: int = 0) -> Path:
    (root / "proc").mkdir()
    text = f"MemAvailable: {available // 1024} kB\nSwapFree: {swap // 1024} kB\n"
    (root / "proc/meminfo").write_text(text)
    return root


def test_what_cannot_fit_is_refused(flash: Path, tmp_path: Path) -> None:
    root = _system(tmp_path, available=16 * 10**9)
    with pytest.raises(CapacityError, match=r'19\.17 GiB as bfloat16.*quantize="int8" they take 10\.\d+ GiB'):
        require_room(flash, device="cpu", root=root)
    require_room(flash, device="cpu", quantize="int8", root=root)


def test_what_might_fit_is_not_refused(flash: Path, tmp_path: Path) -> None:
    require_room(flash, device="cpu", root=tmp_path / "silent")  # a system that says nothing
    root = _system(tmp_path, available=FLASH // 2, swap=FLASH // 2 + 4096)
    require_room(flash, device="cpu", root=root)
    (root / "proc/meminfo").write_text("MemAvailable: 9000000 kB\n")
    with pytest.raises(CapacityError, match="take a machine with more"):
        require_room(flash, device="cpu", quantize="int8", root=root)
    require_room(resolve("tiny"))


def test_a_refusal_comes_before_anything_is_read(
    nano_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glmflash.plan.fit._most", lambda device, root: 1000)
    monkeypatch.setattr("glmflash.loading.load_model", lambda *given, **named: pytest.fail("was read"))
    with pytest.raises(CapacityError, match="cpu has"):
        Pipeline.from_pretrained(nano_checkpoint, device="cpu")


def test_modules_of_towers_are_counted_once(nano_model: Glm4v) -> None:
    total = sum(parameter.nbytes for parameter in nano_model.parameters())
    assert plan(nano_model.config, device="cpu", dtype="float32").weights == total
    assert isinstance(nano_model.lm_head, nn.Linear)
