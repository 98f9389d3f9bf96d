"""The recipe of a pipeline: checked early, a plain value, and a pipeline wherever it goes."""

import inspect
import json
import multiprocessing
import pickle
import sys
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glmflash import (
    ClipPolicy,
    DownloadError,
    GlmflashError,
    InputPolicy,
    ParameterError,
    Pipeline,
    PipelineSpec,
    UrlPolicy,
)
from glmflash import QuantizationConfig as Quantization
from glmflash.weights.load import load_model

FULL = PipelineSpec(
    "zai-org/GLM-4.6V-Flash", device="cuda:3", dtype="bfloat16", revision="abc", local_files_only=True,
    quantize=Quantization(scheme="w8a8", match="mlp"), kv_memory="2 GiB", kv_dtype="int8", max_batch=4,
    max_waiting=9, input_policy=InputPolicy(
        max_pixels=1000, formats=("PNG",), urls=UrlPolicy(hosts=("example.org",)),
        clips=ClipPolicy(max_seconds=9, formats=("GIF",)),
    ),
)  # fmt: skip
WRONG = {
    "model": 7, "device": "tpu", "dtype": "float8", "quantize": "int4", "revision": 7, "local_files_only": 1,
    "kv_memory": "much", "kv_dtype": "int4", "max_batch": 0, "max_waiting": True, "input_policy": {},
}  # fmt: skip


def names(function) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


def test_it_takes_what_from_pretrained_takes_with_the_same_defaults():
    own = {field.name: field.default for field in fields(PipelineSpec)}
    assert sorted([*own, *names(PipelineSpec.load)]) == sorted(names(Pipeline.from_pretrained))
    theirs = inspect.signature(Pipeline.from_pretrained).parameters
    assert {name: theirs[name].default for name in own if name != "model"} == {
        name: default for name, default in own.items() if name != "model"
    }


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_refused_when_it_is_written(name):
    assert set(WRONG) == {field.name for field in fields(PipelineSpec)}
    with pytest.raises(ParameterError) as caught:
        PipelineSpec(**{"model": "tiny", name: WRONG[name]})
    assert caught.value.parameter == name


@pytest.mark.parametrize(
    "device", ["auto", "cpu", "cuda", "cuda:1", torch.device("cpu"), "", "cpu:x", "meta", "cuda:-1", 0, None]
)
def test_a_device_is_refused_as_it_is_when_loading(device, nano_checkpoint):
    said = []
    for make in (
        lambda: PipelineSpec("tiny", device=device),
        lambda: load_model(nano_checkpoint, device=device),
    ):
        try:
            make()
            said.append("")
        except ParameterError as error:
            said.append("" if "torch finds" in str(error) else str(error))  # this machine need not have it
    assert said[0] == said[1]


@pytest.mark.parametrize("dtype", ["auto", "float32", torch.bfloat16, "float64", torch.int8, None])
def test_a_dtype_is_refused_as_it_is_when_loading(dtype, nano_checkpoint):
    said = []
    for make in (lambda: PipelineSpec("tiny", dtype=dtype), lambda: load_model(nano_checkpoint, dtype=dtype)):
        try:
            make()
            said.append(False)
        except ParameterError:
            said.append(True)
    assert said[0] == said[1]


def test_different_words_for_the_same_are_equal():
    plain = PipelineSpec("tiny", dtype="float32", device="cpu", quantize="int8")
    spelled = PipelineSpec(
        "tiny", dtype=torch.float32, device=torch.device("cpu"), quantize=Quantization(),
        input_policy=InputPolicy(),
    )  # fmt: skip
    assert plain == spelled
    assert hash(plain) == hash(spelled)
    assert plain != PipelineSpec("tiny")
    with pytest.raises(FrozenInstanceError):
        plain.model = "other"


def test_a_folder_is_kept_by_its_full_path(tmp_path, monkeypatch):
    (tmp_path / "tiny").mkdir()
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert PipelineSpec("tiny").model == "tiny"
    for name in ("./tiny", Path("tiny")):
        assert PipelineSpec(name).model == str(tmp_path / "tiny")
    assert PipelineSpec("org/name").model == str(tmp_path / "org" / "name")
    assert PipelineSpec("/only/there").model == "/only/there"  # on another machine
    assert PipelineSpec("org/other", revision="main").model == "org/other"
    for name in ("no/such/folder", "", Path("absent")):
        with pytest.raises(DownloadError, match="no such folder"):
            PipelineSpec(name)
    for name in ("tiny", "./tiny", "/only/there"):
        with pytest.raises(ParameterError, match="is a folder; leave it out"):
            PipelineSpec(name, revision="main")


@pytest.mark.parametrize("spec", [PipelineSpec("tiny"), FULL], ids=["short", "full"])
def test_there_and_back_again(spec):
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert PipelineSpec.from_json(spec.to_json()) == spec
    assert len(pickle.dumps(spec)) < 2000  # no weights


def test_a_person_may_write_the_json():
    spec = PipelineSpec.from_json('{"model": "tiny", "quantize": "w8a8", "input_policy": {"max_bytes": 5}}')
    assert spec == PipelineSpec("tiny", quantize="w8a8", input_policy=InputPolicy(max_bytes=5))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "spec: is not JSON"), ("[" * 100_000, "spec: is not JSON"),
        ("[]", "spec: is a list; allowed: an object"), ("{}", "model: is missing"),
        ('{"model": "tiny", "modle": 1}', "spec: holds 'modle', which is unknown"),
        ('{"model": "tiny", "quantize": {"bits": 4}}', "quantize: holds 'bits'"),
        ('{"model": "tiny", "quantize": 4}', "quantize: is a int"),
        ('{"model": "tiny", "input_policy": []}', "input_policy: is a list"),
        ('{"model": "tiny", "input_policy": {"formats": "PNG"}}', "formats: is 'PNG'"),
        ('{"model": "tiny", "observers": []}', "spec: holds 'observers'"),
    ],
)  # fmt: skip
def test_other_json_is_refused_by_name(text, said):
    with pytest.raises(ParameterError) as caught:
        PipelineSpec.from_json(text)
    assert said in str(caught.value)


_PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "int8", "cuda:1"])
_JSON = (
    _PLAIN | st.lists(_PLAIN, max_size=2) | st.dictionaries(st.sampled_from(["scheme", "formats"]), _PLAIN)
)


@pytest.mark.property
@given(values=st.dictionaries(st.sampled_from([*WRONG]), _JSON))
def test_any_json_is_a_spec_or_a_typed_error(values):
    try:
        spec = PipelineSpec.from_json(json.dumps({"model": "tiny", **values}))
    except GlmflashError:
        return
    assert PipelineSpec.from_json(spec.to_json()) == spec


@pytest.mark.slow
def test_loading_is_from_pretrained():
    seen = []
    with PipelineSpec("tiny", max_batch=2, quantize="int8").load(observers=[seen.append]) as pipe:
        answer = pipe("Transcribe the picture.", max_new_tokens=4)
        assert pipe.card is not None
        assert pipe.engine.prefetch == 4
    assert seen
    with Pipeline.from_pretrained("tiny", quantize="int8") as pipe:
        assert pipe("Transcribe the picture.", max_new_tokens=4).token_ids == answer.token_ids


def ask(spec: PipelineSpec) -> list[int]:
    """In another process."""
    with spec.load(progress=False) as pipe:
        return list(pipe("Transcribe the picture.", max_new_tokens=8).token_ids)


@pytest.mark.slow
def test_a_process_that_was_spawned_loads_the_same(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parent), *sys.path])  # where it finds `ask`
    import test_spec  # by that name

    spec = PipelineSpec("tiny", device="cpu")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(test_spec.ask, (spec,)) == ask(spec)
