"""INT8 products: each kernel within the error that its rounding allows, each row free of its neighbours."""

import math
import sys
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from int8_weights import make_int_mm_exact, random_weight

from glmflash.ops.int8 import KERNELS, activations, by_levels

CPU = torch.device("cpu")
NAMED = {kernel.name: kernel for kernel in KERNELS}
SCHEMES = {"all rows split": 0.0, "rows with outliers split": 16.0}
ROWS = {  # kinds of rows, from normal ones (N, I)
    "normal": lambda x: x,
    "outlier channel": lambda x: x * torch.where(torch.arange(x.shape[1]) == 3, 300.0, 1.0),
    "outlier tokens": lambda x: x * torch.where(torch.arange(len(x)) % 3 == 1, 1e4, 1.0)[:, None],
    "one number in zeros": lambda x: torch.zeros_like(x).index_fill_(1, torch.tensor([5]), -2.5),
    "zeros between": lambda x: x * (torch.arange(len(x)) % 2)[:, None],
    "subnormal": lambda x: x * 1e-39,
    "tiny": lambda x: x * 1e-36,
    "huge": lambda x: x * 1e30,
    "all at the peak": lambda x: torch.full_like(x, 7.0),
    "all at the peak, below": lambda x: torch.full_like(x, -7.0),
    "halves of levels": lambda x: torch.where(x > 1, 127.0, 63.5).index_fill_(1, torch.tensor([0]), 127.0),
}


@pytest.fixture(scope="module", autouse=True)
def exact():
    with pytest.MonkeyPatch.context() as patch:
        make_int_mm_exact(patch)
        yield


@pytest.fixture(params=["fbgemm", "onednn", "cublas", "reference"])
def kernel(request):
    """Each kernel that computes on a CPU. Only where it is chosen is "cublas" bound to CUDA."""
    if request.param != "cublas" and (reason := NAMED[request.param].why_not(CPU)) is not None:
        pytest.skip(reason)
    return NAMED[request.param]


def levels(kernel):
    """Largest whole number that activations become; None where they are not rounded."""
    if kernel.name == "reference":
        return None
    return 127 if kernel.name == "cublas" else sys.modules[f"glmflash.ops.int8.{kernel.name}"]._levels()


def allowed(kernel, x, weight, scale, split):
    """The largest error that rounding may make, for each output. Shapes: -> (N, O).

    A number is off by half a step at most, so a sum by half a step times the sum of the weights' magnitudes.
    A step is the row's peak over L, and of a row that is split, over 2 L more. Floating sums come on top.
    """
    sizes = (weight.double().abs() * scale.double()[:, None]).T  # (I, O)
    floating = 2e-6 * (x.abs() @ sizes) + 1e-43  # and the smallest number that there is, a few times
    if (whole := levels(kernel)) is None:
        return floating
    tiny = torch.finfo(torch.float32).tiny
    peak = x.abs().amax(1, keepdim=True).clamp_min(tiny * whole)
    apart = peak > split * 0.999 * x.square().mean(1, keepdim=True).sqrt()
    surely = peak > split * 1.001 * x.square().mean(1, keepdim=True).sqrt()
    assert torch.equal(apart, surely), "a row on the border: choose another"
    step = peak / whole / torch.where(apart, 2 * whole, 1)
    return 0.501 * step * sizes.sum(0) + floating


def check(kernel, x, weight, scale, split):
    out = kernel.pack(weight, scale).linear(x, split=split)
    exact = x.double() @ (weight.double() * scale.double()[:, None]).T
    assert (out.dtype, out.shape) == (torch.float32, exact.shape)
    assert ((out.double() - exact).abs() <= allowed(kernel, x.double(), weight, scale, split)).all()
    return out, exact


@pytest.mark.parametrize("split", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("kind", ROWS)
def test_errors_are_those_of_rounding(kernel, kind, split):
    weight, scale = random_weight(48, 320)
    check(kernel, ROWS[kind](torch.randn(9, 320)), weight, scale, split)


@pytest.mark.parametrize("split", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("outputs", [1, 7, 8, 65])
@pytest.mark.parametrize("inputs", [1, 3, 8, 31, 64, 257])
def test_any_shape(kernel, outputs, inputs, split):
    weight, scale = random_weight(outputs, inputs)
    x = torch.randn(5, inputs)
    x[2] *= 100
    check(kernel, x, weight, scale, split)
    check(kernel, x[:1], weight, scale, split)
    assert kernel.pack(weight, scale).linear(x[:0], split=split).shape == (0, outputs)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("peak", [127, -127, -128])
def test_the_largest_sums_do_not_saturate(kernel, peak, sign):
    weight, scale = torch.full((16, 13696), peak, dtype=torch.int8), torch.full((16,), 0.5)
    out, exact = check(kernel, torch.full((2, 13696), sign * 3.0), weight, scale, 16.0)
    assert torch.allclose(out.double(), exact, rtol=1e-5)


def test_a_weight_with_outliers_in_a_row_and_a_column(kernel):
    weight, scale = random_weight(64, 512)
    weight = weight // 40
    weight[:, 17], weight[5] = 127, -127
    x = torch.randn(20, 512)
    x[:, 17] *= 50
    check(kernel, x, weight, scale, 16.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_any_floating_dtype(kernel, dtype):
    weight, scale = random_weight(40, 128)
    x = torch.randn(6, 128).mul_(20)
    x[1] *= 500
    before = x.to(dtype)
    after = before.clone()
    out, _ = check(kernel, after, weight, scale, 16.0)
    assert torch.equal(after, before), "the input was written to"
    assert torch.equal(out, kernel.pack(weight, scale).linear(before.float(), split=16.0))


@pytest.mark.parametrize("split", SCHEMES.values(), ids=SCHEMES)
def test_rows_that_do_not_lie_side_by_side(kernel, split):
    weight, scale = random_weight(24, 96)
    packed = kernel.pack(weight, scale)
    wide = torch.randn(10, 192)
    wide[3, 8] = 1e3
    for x in (wide[:, ::2], wide[:, :96], wide[::3, 5:101], wide.T[:96, :].T, wide[:1, :96].expand(7, 96)):
        assert torch.equal(packed.linear(x, split=split), packed.linear(x.contiguous(), split=split))


def test_weights_that_do_not_lie_side_by_side(kernel):
    weight, scale = random_weight(24, 96)
    x = torch.randn(3, 96)
    plain = kernel.pack(weight, scale).linear(x, split=0)
    for other in (weight.T.contiguous().T, torch.stack([weight, weight], 2)[:, :, 1]):
        packed = kernel.pack(other, scale)
        assert torch.equal(packed.linear(x, split=0), plain)
        assert torch.equal(packed.unpack(), weight)


@pytest.mark.parametrize("split", SCHEMES.values(), ids=SCHEMES)
def test_more_rows_than_a_tile(kernel, split):
    weight, scale = random_weight(16, 64)
    x = torch.randn(1100, 64)
    x[::50] *= 30
    x[::70, 3] = 500
    check(kernel, x, weight, scale, split)


def test_how_near_it_is(kernel):
    """Of normal rows: with 14 bits a few parts in 100,000; with 8 bits, their peak over 440 mean sizes."""
    weight, scale = random_weight(512, 1024)
    x = torch.randn(64, 1024)
    for split in SCHEMES.values():
        out, exact = check(kernel, x, weight, scale, split)
        error = ((out - exact).norm() / exact.norm()).item()
        if levels(kernel) is None:
            assert error < 1e-6
        else:
            ratio = (x.abs().amax(1) / x.square().mean(1).sqrt()).mean().item()
            steps = levels(kernel) * (1 if split else 2 * levels(kernel))
            assert error == pytest.approx(ratio / steps / math.sqrt(12), rel=0.1)


@pytest.mark.parametrize("split", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_row_that_is_not_finite_shows_it_and_spoils_no_other(kernel, bad, split):
    weight, scale = random_weight(33, 200)
    weight[:, 7] = weight[:, 7].clamp_min(1)  # a weight of zero would not show a number that is not finite
    packed = kernel.pack(weight, scale)
    x = torch.randn(7, 200)
    x[5, 3] = 1e3
    good = packed.linear(x, split=split)
    x[2, 7], x[4] = bad, bad
    out = packed.linear(x, split=split)
    assert not out[[2, 4]].isfinite().any()
    rest = [0, 1, 3, 5, 6]
    assert torch.equal(out[rest], good[rest])


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (64, 64), (70, 129)])
def test_unpacking_gives_the_weight(kernel, shape):
    weight = torch.arange(math.prod(shape)).remainder(256).sub(128).to(torch.int8).view(shape)
    scale = torch.tensor([1e-38, 1.0, 1e38, 0.0, 2.0]).repeat(14)[: shape[0]]
    given = weight.clone()
    packed = kernel.pack(given, scale)
    back = packed.unpack()
    assert torch.equal(back, weight)
    assert back.dtype == torch.int8
    assert back.is_contiguous()
    packed.linear(torch.randn(2, shape[1]), split=0)
    assert torch.equal(packed.unpack(), weight)


def test_it_holds_little_more_than_a_byte_for_each_weight(kernel):
    packed = kernel.pack(*random_weight(256, 512))
    assert 256 * 512 + 256 * 4 <= packed.nbytes <= 256 * 512 + 256 * 16


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("whole", [127, 63])
def test_few_rows_are_computed_as_many(whole, kind):
    """NumPy's steps beside PyTorch's: the same bits, from the inputs of the product to its results."""
    weight = torch.randint(-127, 128, (20, 50)).float()
    given = []

    def multiply(rows):
        given.append(rows.clone())
        return rows.round() @ weight.T

    x = ROWS[kind](torch.randn(4, 50))
    peaks = activations.row_peaks(x, whole)
    with np.errstate(all="ignore"):
        few = torch.from_numpy(activations.few_rows(x.numpy(), lambda rows: [multiply(rows)], whole))
    many = activations._both_parts(x, peaks, multiply, whole, 0)
    assert torch.equal(*given)
    assert torch.equal(few, many)


def test_a_weight_packed_in_parts(monkeypatch):
    if NAMED["fbgemm"].why_not(CPU):
        pytest.skip("does not run here")
    x = torch.randn(6, 40)
    for rows in (1, 15, 16, 17, 33, 100):
        weight, scale = random_weight(rows, 40)
        whole = NAMED["fbgemm"].pack(weight, scale)
        with monkeypatch.context() as patch:
            patch.setattr(sys.modules["glmflash.ops.int8.fbgemm"], "_HEIGHT", 16)
            parts = NAMED["fbgemm"].pack(weight, scale)
        assert len(parts._packed) == -(-rows // 16)
        assert torch.equal(parts.unpack(), weight)
        assert parts.nbytes == whole.nbytes
        for split in SCHEMES.values():
            assert torch.equal(parts.linear(x, split=split), whole.linear(x, split=split))


@pytest.mark.parametrize("inputs", [1, 3, 64, 65, 300])
@pytest.mark.parametrize("outputs", [1, 63, 64, 65, 200])
def test_what_a_weight_takes_is_known_before_it_is_packed(kernel, outputs, inputs):
    packed = kernel.pack(*random_weight(outputs, inputs))
    assert kernel.nbytes(outputs, inputs) == packed.nbytes >= outputs * inputs


numbers = st.floats(-1000, 1000, width=32)
batches = st.integers(1, 12).flatmap(
    lambda inputs: st.lists(
        st.lists(numbers | st.just(0.0) | st.just(1e9), min_size=inputs, max_size=inputs),
        min_size=1,
        max_size=20,
    )
)


@pytest.mark.property
@pytest.mark.parametrize("name", ["fbgemm", "onednn", "cublas"])
@given(rows=batches, split=st.sampled_from([0.0, 1.5, 2.0, 16.0]), data=st.data())
def test_a_row_alone_is_the_row_among_any_others(name, rows, split, data):
    if name != "cublas" and NAMED[name].why_not(CPU):
        pytest.skip("does not run here")
    x = torch.tensor(rows)
    packed = NAMED[name].pack(*random_weight(11, x.shape[1]))
    whole = packed.linear(x, split=split)
    order = data.draw(st.permutations(range(len(x))))
    some = order[: data.draw(st.integers(1, len(x)))]
    assert torch.equal(packed.linear(x[some], split=split), whole[some])
    assert torch.equal(packed.linear(x[some[:1]], split=split), whole[some[:1]])


@pytest.mark.parametrize("split", [0.0, 4.0, 16.0])
@pytest.mark.parametrize("rows", [3, 40, 70, 140, 600])  # below and above every tile and every few
def test_a_long_row_alone_is_the_row_among_any_others(kernel, rows, split):
    weight, scale = random_weight(50, 1000)
    packed = kernel.pack(weight, scale)
    x = torch.randn(rows, 1000)
    x[::2, 5] = 90
    x[::3] *= 1e3
    whole = packed.linear(x, split=split)
    for row in (0, 1, rows // 2, rows - 1):
        alone = packed.linear(x[row : row + 1], split=split)
        if kernel.name == "reference":  # sums of floating numbers, in another order
            assert torch.allclose(alone, whole[row : row + 1], rtol=1e-4, atol=1e-5 * whole[row].abs().max())
        else:
            assert torch.equal(alone, whole[row : row + 1])


@pytest.mark.parametrize("split", SCHEMES.values(), ids=SCHEMES)
def test_kernels_agree(kernel, split):
    weight, scale = random_weight(96, 384)
    x = torch.randn(30, 384)
    x[::4, 9] = 200
    out = kernel.pack(weight, scale).linear(x, split=split)
    other = NAMED["cublas"].pack(weight, scale).linear(x, split=split)
    if levels(kernel) == 127:  # the same whole numbers: only the scales can round otherwise
        assert torch.allclose(out, other, rtol=1e-5, atol=1e-6 * out.abs().max())
    assert (out - other).norm() / out.norm() < (2e-3 if split == 0 else 3e-2)


def test_two_threads_share_a_weight(kernel):
    packed = kernel.pack(*random_weight(128, 256))
    inputs = [torch.randn(rows, 256) for rows in (1, 3, 17, 130)]
    wanted = [packed.linear(x, split=16.0) for x in inputs]
    wrong = []

    def work(turn):
        for number in range(40):
            which = (number + turn) % len(inputs)
            if not torch.equal(packed.linear(inputs[which], split=16.0), wanted[which]):
                wrong.append(which)

    threads = [threading.Thread(target=work, args=(turn,)) for turn in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("whole", [127, 63])
@pytest.mark.parametrize("split", [0.0, 3.0])
def test_levels_stay_in_their_range(whole, split):
    seen = []

    def multiply(rows):
        seen.append(rows.round())
        return rows.round()

    x = torch.randn(300, 50).mul_(torch.logspace(-36, 36, 300)[:, None])
    out = by_levels(x, multiply, 50, levels=whole, split=split, tile=100)
    assert max(rows.abs().max() for rows in seen) == whole
    assert ((out - x).abs() <= x.abs().amax(1, keepdim=True) / whole).all()


@pytest.mark.parametrize("split", [2.2, 3.0])
def test_parts_set_to_zero_are_parts_left_out(split):
    weight = torch.randint(-127, 128, (20, 50)).float()
    x = torch.randn(40, 50)
    left_out = by_levels(x, lambda rows: rows.round() @ weight.T, 20, levels=127, split=split)
    zero = by_levels(x, lambda rows: rows.round() @ weight.T, 20, levels=127, split=split, few=40)
    assert torch.equal(left_out, zero)
    assert not torch.equal(
        left_out, by_levels(x, lambda rows: rows.round() @ weight.T, 20, levels=127, split=0)
    )
