"""Kernels for CUDA devices, on a CPU: cuBLAS through the operator that it shares, Triton interpreted."""

import importlib.util
import math
import sys
import warnings

import pytest
import torch
from int8_weights import make_int_mm_exact, random_weight

from glmflash.ops.int8 import choose_kernel
from glmflash.ops.int8.cuda import CUBLAS, CublasWeight
from glmflash.ops.int8.triton import TRITON

CPU = torch.device("cpu")
MODULE = sys.modules["glmflash.ops.int8.triton"]
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed"
)


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    make_int_mm_exact(monkeypatch)


@pytest.fixture
def shapes(monkeypatch):
    """What `torch._int_mm` is given, checked for what it takes on CUDA devices."""
    seen, plain = [], torch._int_mm

    def multiply(a, b):
        assert a.dtype == b.dtype == torch.int8
        assert len(a) > 16, "cuBLAS takes 17 rows or more"
        assert a.shape[1] % 8 == b.shape[1] % 8 == 0
        assert min(b.shape) > 0
        assert a.is_contiguous()
        assert b.T.is_contiguous(), "cuBLAS takes the second matrix by columns"
        seen.append((len(a), a.shape[1], b.shape[1]))
        return plain(a, b)

    monkeypatch.setattr(torch, "_int_mm", multiply)
    return seen


@pytest.mark.parametrize("split", [0.0, 4.0])
@pytest.mark.parametrize("rows", [0, 1, 7, 8, 9, 16, 17, 65, 600])
def test_cublas_is_given_what_it_takes(shapes, rows, split):
    for outputs, inputs in ((1, 1), (8, 16), (13, 21)):
        weight, scale = random_weight(outputs, inputs)
        packed = CublasWeight(weight, scale)
        x = torch.randn(rows, inputs)
        exact = x.double() @ (weight.double() * scale.double()[:, None]).T
        assert torch.allclose(packed.linear(x, split=split).double(), exact, rtol=0.05, atol=0.05)
        assert torch.equal(packed.unpack(), weight)
        assert packed.stored.shape == (math.ceil(outputs / 8) * 8, math.ceil(inputs / 8) * 8)
    assert shapes


@pytest.mark.parametrize("rows", [1, 16, 64])
def test_the_host_asks_nothing_of_a_few_rows(rows, monkeypatch):
    """Whatever makes it wait for a GPU: sizes that depend on numbers, and numbers read."""
    packed = CublasWeight(*random_weight(16, 32))
    x = torch.randn(rows, 32)

    def wait(*_, **__):
        raise AssertionError("the host waits for the device")

    for name in ("item", "__bool__", "tolist", "nonzero"):
        monkeypatch.setattr(torch.Tensor, name, wait)
    monkeypatch.setattr(torch, "nonzero", wait)
    packed.linear(x, split=0)
    packed.linear(x, split=2.0)
    packed.linear(x.repeat(100, 1), split=0)
    with pytest.raises(AssertionError, match="waits"):
        packed.linear(x.repeat(100, 1), split=2.0)


def test_cublas_is_tried_out(monkeypatch):
    tried = sys.modules[CublasWeight.__module__]._tried
    assert tried(CPU) is None
    plain = torch._int_mm
    with monkeypatch.context() as patch:
        patch.setattr(torch, "_int_mm", lambda a, b: plain(a, b).clamp(-(2**15), 2**15 - 1))
        assert tried(CPU) == "its sums are not exact on this device"

    def refuse(a, b):
        raise RuntimeError("CUBLAS_STATUS_NOT_SUPPORTED")

    monkeypatch.setattr(torch, "_int_mm", refuse)
    assert "CUBLAS_STATUS_NOT_SUPPORTED" in tried(CPU)


def test_triton_multiplies_many_rows_by_cublas():
    weight, scale = random_weight(24, 40)
    x = torch.randn(17, 40)
    packed = TRITON.pack(weight, scale)
    assert torch.equal(packed.linear(x, split=0), CUBLAS.pack(weight, scale).linear(x, split=0))
    assert packed.linear(x[:0], split=0).shape == (0, 24)
    assert torch.equal(packed.unpack(), weight)
    assert packed.nbytes == weight.nbytes + scale.nbytes


def test_a_gpu_without_triton_is_told_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)  # `import triton` fails
    monkeypatch.setattr(MODULE, "_kernel", MODULE._kernel.__wrapped__)
    assert "ImportError" in MODULE._tried(CPU) or "ModuleNotFoundError" in MODULE._tried(CPU)


@pytest.fixture
def interpreted(monkeypatch):
    import triton

    if tuple(map(int, triton.__version__.split(".")[:2])) < (3, 9):
        pytest.skip("the interpreter of older Triton does not run with recent NumPy")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    kernel = MODULE._kernel.__wrapped__()
    monkeypatch.setattr(MODULE, "_kernel", lambda: kernel)


@needs_triton
@pytest.mark.parametrize("split", [0.0, 4.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rows", [1, 2, 15, 16])
def test_triton_gives_what_cublas_gives_to_the_last_bit(interpreted, rows, dtype, split):
    for outputs, inputs in ((1, 1), (32, 256), (33, 257), (40, 600)):
        weight, scale = random_weight(outputs, inputs)
        x = torch.randn(rows, inputs)
        x[::2, 0], x[1::4] = 50, 0
        x = x.to(dtype)
        packed = TRITON.pack(weight, scale)
        assert torch.equal(packed.linear(x, split=split), CUBLAS.pack(weight, scale).linear(x, split=split))


@needs_triton
def test_triton_with_rows_that_do_not_lie_side_by_side(interpreted):
    packed = TRITON.pack(*random_weight(40, 96))
    wide = torch.randn(4, 192)
    assert torch.equal(
        packed.linear(wide[:, ::2], split=0), packed.linear(wide[:, ::2].contiguous(), split=0)
    )


@needs_triton
@pytest.mark.parametrize("size", [1e-38, 1e-36, 1e30])
def test_triton_with_rows_of_any_size(interpreted, size):
    weight, scale = random_weight(40, 96)
    x = torch.randn(4, 96) * size
    packed = TRITON.pack(weight, scale)
    assert torch.equal(packed.linear(x, split=0), CUBLAS.pack(weight, scale).linear(x, split=0))


@needs_triton
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_triton_with_a_row_that_is_not_finite(interpreted, bad):
    packed = TRITON.pack(*random_weight(40, 96))
    x = torch.randn(4, 96)
    good = packed.linear(x, split=4.0)
    x[1] = bad
    with warnings.catch_warnings():  # of NumPy, which stands in for the GPU
        warnings.simplefilter("ignore", RuntimeWarning)
        out = packed.linear(x, split=4.0)
    assert not out[1].isfinite().any()
    assert torch.equal(out[[0, 2, 3]], good[[0, 2, 3]])


@needs_triton
def test_triton_is_tried_out(interpreted, monkeypatch):
    assert MODULE._tried(CPU) is None
    kernel = MODULE._kernel()

    class Wrong:
        def __getitem__(self, grid):
            def run(*given, **options):
                kernel[grid](*given, **options)
                given[5].add_(1e-3)

            return run

    monkeypatch.setattr(MODULE, "_kernel", Wrong)
    assert MODULE._tried(CPU) == "its results differ from those of cuBLAS on this device"


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
def test_triton_compiles_for_gpus(capability, tmp_path, monkeypatch):
    """To machine code, and to products of whole numbers; no GPU is needed for that."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    import triton
    from triton.backends.compiler import GPUTarget

    kernel = MODULE._kernel.__wrapped__()
    kinds = ["*bf16", "*fp32", "*i1", "*i8", "*fp32", "*fp32", "i32", "i32", "i32", "i32"] + ["constexpr"] * 4
    sizes = {"WHOLE": False, "ROWS": MODULE._FEW, "OUTPUTS": MODULE._OUTPUTS, "INPUTS": MODULE._INPUTS}
    source = triton.compiler.ASTSource(
        fn=kernel,
        signature=dict(zip(kernel.arg_names, kinds, strict=True)),
        constexprs=sizes,
        attrs={(place,): [["tt.divisibility", 16]] for place in (0, 1, 2, 3, 4, 5, 7, 8, 9)},
    )
    options = {"enable_fp_fusion": False, "num_warps": 4, "num_stages": 4}
    built = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    assert built.asm["cubin"]
    assert "s32.s8.s8.s32" in built.asm["ptx"]
    assert "cp.async" in built.asm["ptx"]  # the weight is fetched ahead
    assert "div.full" not in built.asm["ptx"]  # which does not round as PyTorch does


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["triton", "cublas"])
@pytest.mark.parametrize("rows", [1, 16, 17, 600])
@pytest.mark.parametrize("split", [0.0, 16.0])
def test_on_a_gpu(name, rows, split):
    device = torch.device("cuda")
    if TRITON.why_not(device) and name == "triton":
        pytest.skip(TRITON.why_not(device))
    weight, scale = random_weight(130, 300)
    x = torch.randn(rows, 300)
    x[::3, 5] = 100
    packed = choose_kernel(device, name).pack(weight.to(device), scale.to(device))
    out = packed.linear(x.to(device), split=split)
    assert torch.equal(packed.unpack().cpu(), weight)
    wanted = CublasWeight(weight, scale).linear(x, split=split)
    assert torch.allclose(out.cpu(), wanted, rtol=1e-5, atol=1e-5 * wanted.abs().max())
    assert torch.equal(packed.linear(x[:1].to(device), split=split), out[:1])
