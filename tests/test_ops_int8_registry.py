"""Which kernel serves a device: the first that runs, never silently another than was asked for."""

import platform
import sys

import pytest
import torch

from glmflash.errors import ParameterError
from glmflash.ops.int8 import KERNELS, choose_kernel

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
NAMES = [kernel.name for kernel in KERNELS]


def module(name):
    return sys.modules[f"glmflash.ops.int8.{name}"]


@pytest.fixture(autouse=True)
def forgetful():
    """Nothing that was tried out before counts, nor does what these tests pretend count afterwards."""
    tried = (choose_kernel, module("fbgemm")._levels, module("onednn")._levels)
    for function in tried:
        function.cache_clear()
    yield
    for function in tried:
        function.cache_clear()


def missing(*_):
    raise AttributeError("no such operator")


missing.default = missing  # of its overloads


@pytest.fixture
def without_fbgemm(monkeypatch):
    monkeypatch.setattr(torch.backends.quantized, "engine", "qnnpack")


@pytest.fixture
def without_onednn(monkeypatch):
    monkeypatch.setattr(torch.ops.onednn, "qlinear_prepack", missing)


def test_best_first_and_the_last_runs_everywhere():
    assert NAMES == ["fbgemm", "onednn", "triton", "cublas", "reference"]
    assert all(KERNELS[-1].why_not(torch.device(kind)) is None for kind in ("cpu", "cuda", "meta"))


def test_the_first_that_runs_is_chosen(monkeypatch):
    monkeypatch.setattr(module("registry"), "has_wide_vnni", lambda: False)
    first = next(kernel for kernel in KERNELS if kernel.why_not(CPU) is None)
    assert choose_kernel(CPU) is first
    assert choose_kernel(torch.device("meta")).name == "reference"


def test_processors_with_wide_vnni_have_onednn(monkeypatch):
    if KERNELS[1].why_not(CPU):
        pytest.skip("it does not run here")
    monkeypatch.setattr(module("registry"), "has_wide_vnni", lambda: True)
    assert choose_kernel(CPU).name == "onednn"
    assert choose_kernel(CPU, "fbgemm" if KERNELS[0].why_not(CPU) is None else "reference").name != "onednn"
    assert choose_kernel(torch.device("meta")).name == "reference"


@pytest.mark.parametrize(
    ("registers", "levels", "wide"),
    [("AVX512", 127, True), ("AVX512", 63, False), ("AVX2", 127, False), ("DEFAULT", 63, False)],
)
def test_vnni_is_wide_in_registers_of_512_bits(registers, levels, wide, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: registers)
    monkeypatch.setattr(module("onednn"), "_levels", lambda: levels)
    if KERNELS[1].why_not(CPU):
        pytest.skip("oneDNN does not run here")
    assert module("onednn").has_wide_vnni() == wide


def test_vnni_does_not_count_where_onednn_does_not_run(without_onednn, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert not module("onednn").has_wide_vnni()


@pytest.mark.parametrize("engine", ["qnnpack", "onednn"])
def test_fbgemm_says_which_engine_stands_in_its_way(engine, monkeypatch):
    monkeypatch.setattr(torch.backends.quantized, "engine", engine)
    reason = KERNELS[0].why_not(CPU)
    assert engine in reason
    assert "'x86', 'fbgemm'" in reason


def test_without_the_first_it_is_the_second(without_fbgemm):
    if KERNELS[1].why_not(CPU):
        pytest.skip("the second does not run here either")
    assert choose_kernel(CPU).name == "onednn"


def test_without_both_it_is_the_reference(without_fbgemm, without_onednn):
    assert "no such operator" in KERNELS[1].why_not(CPU)
    assert choose_kernel(CPU).name == "reference"


@pytest.mark.parametrize("operator", ["linear_prepack", "linear_with_input_q_dq_qweight_dq_output_fp32"])
def test_fbgemm_says_that_an_operator_is_missing(operator, monkeypatch):
    if KERNELS[0].why_not(CPU):
        pytest.skip("it does not run here anyway")
    module("fbgemm")._levels.cache_clear()
    monkeypatch.setattr(torch.ops.quantized, operator, missing)
    assert "no such operator" in KERNELS[0].why_not(CPU)


def test_onednn_says_what_stands_in_its_way(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    with monkeypatch.context() as patch:
        patch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
        assert "without oneDNN" in KERNELS[1].why_not(CPU)
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert "x86" in KERNELS[1].why_not(CPU)


def test_a_kernel_that_cannot_run_is_refused_by_name_and_reason(without_fbgemm):
    with pytest.raises(ParameterError, match=r"is 'fbgemm', which does not run on cpu here: .*qnnpack"):
        choose_kernel(CPU, "fbgemm")
    for name in ("triton", "cublas"):
        with pytest.raises(ParameterError, match="CUDA devices only"):
            choose_kernel(CPU, name)


def test_a_name_that_is_none_lists_those_that_are():
    with pytest.raises(
        ParameterError, match=r"'marlin'.*'fbgemm', 'onednn', 'triton', 'cublas', 'reference'"
    ):
        choose_kernel(CPU, "marlin")


@pytest.mark.parametrize("name", ["fbgemm", "onednn"])
def test_kernels_for_processors_run_nowhere_else(name):
    (kernel,) = (kernel for kernel in KERNELS if kernel.name == name)
    assert kernel.why_not(CUDA) == "it computes on CPUs only"


def test_without_a_gpu_both_of_its_kernels_say_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("triton", "cublas"):
        (kernel,) = (kernel for kernel in KERNELS if kernel.name == name)
        assert kernel.why_not(CUDA) == "there is no CUDA device here"
    assert choose_kernel(CUDA).name == "reference"
