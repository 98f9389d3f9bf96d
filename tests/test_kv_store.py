"""Block storage: what is written comes back, also after it has grown, been copied, exported and loaded."""

import weakref

import pytest
import torch

from glmflash.errors import CacheFullError, ParameterError
from glmflash.kv import BlockStore, Copy, block_bytes
from glmflash.kv.quantize import dequantize_rows, quantize_rows

LAYERS, HEADS, SIZE, BLOCK = 3, 2, 8, 4


def make(num_blocks: int = 16, **options) -> BlockStore:
    return BlockStore(
        num_layers=LAYERS,
        num_kv_heads=HEADS,
        head_dim=SIZE,
        num_blocks=num_blocks,
        block_size=BLOCK,
        **options,
    )


def rows(count: int, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """(LAYERS, 2, count, HEADS, SIZE)"""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(LAYERS, 2, count, HEADS, SIZE, generator=generator).to(dtype)


def fill(store: BlockStore, slots: list[int], tokens: torch.Tensor) -> None:
    for layer, (k, v) in enumerate(tokens):
        store.write(layer, torch.tensor(slots), k, v)


def content(store: BlockStore, blocks: list[int], length: int) -> torch.Tensor:
    return torch.stack(
        [torch.stack(store.read(layer, torch.tensor(blocks), length)) for layer in range(LAYERS)]
    )


def as_stored(tokens: torch.Tensor, *, int8: bool) -> torch.Tensor:
    return dequantize_rows(*quantize_rows(tokens), out=torch.empty_like(tokens)) if int8 else tokens


def poison(store: BlockStore) -> None:
    """NaN everywhere, and a number where INT8 knows none."""
    for layer in range(LAYERS):
        for plane in store.layers[layer].planes:
            plane.fill_(77 if plane.dtype == torch.int8 else float("nan"))


int8_and_not = pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])


@pytest.mark.parametrize("name", ["num_layers", "num_kv_heads", "head_dim", "num_blocks", "block_size"])
def test_sizes_are_at_least_one(name):
    sizes = {"num_layers": 1, "num_kv_heads": 1, "head_dim": 1, "num_blocks": 1, "block_size": 1}
    with pytest.raises(ParameterError, match=f"{name}: is 0"):
        BlockStore(**sizes | {name: 0})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@int8_and_not
def test_bytes_are_known_before_they_are_taken(dtype, int8):
    store = make(dtype=dtype, int8=int8)
    known = block_bytes(
        num_layers=LAYERS, num_kv_heads=HEADS, head_dim=SIZE, block_size=BLOCK, dtype=dtype, int8=int8
    )
    assert store.block_bytes == known
    assert store.nbytes == 0
    store.ensure(5)
    assert store.nbytes == 5 * known


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@int8_and_not
def test_what_is_written_is_read(dtype, int8):
    store, tokens = make(dtype=dtype, int8=int8), rows(7, dtype=dtype)
    store.ensure(9)
    poison(store)
    fill(store, [22, 23, 20, 21, 8, 9, 10], tokens)
    read = content(store, [5, 2], 7)
    assert read.dtype == dtype
    order = torch.tensor([2, 3, 0, 1, 4, 5, 6])
    assert torch.equal(read, as_stored(tokens, int8=int8)[:, :, order])


def test_neighbours_are_read_without_a_copy():
    store = make()
    store.ensure(4)
    fill(store, list(range(4, 14)), rows(10))
    k, v = store.read(1, slice(1, 4), 10)
    assert torch.equal(torch.stack((k, v)), rows(10)[1])
    memory = store.layers[1].planes[0].untyped_storage().data_ptr()
    assert k.untyped_storage().data_ptr() == v.untyped_storage().data_ptr() == memory


@int8_and_not
def test_neighbours_and_single_blocks_read_alike(int8):
    store = make(int8=int8)
    store.ensure(4)
    fill(store, list(range(4, 14)), rows(10))
    for a, b in zip(store.read(2, slice(1, 4), 9), store.read(2, torch.tensor([1, 2, 3]), 9), strict=True):
        assert torch.equal(a, b)


def test_nothing_of_the_graph_is_kept():
    store = make()
    store.ensure(1)
    k = torch.ones(1, HEADS, SIZE, requires_grad=True)
    store.write(0, torch.tensor([0]), k, k)
    assert not store.read(0, slice(0, 1), 1)[0].requires_grad


def test_memory_taken_in_inference_mode_can_be_written_outside():
    with torch.inference_mode():
        store = make()
        store.ensure(1)
    fill(store, [0], rows(1))
    assert torch.equal(content(store, [0], 1), rows(1))


# --- growth


def test_grows_twofold_up_to_the_limit():
    store = make(13)
    sizes = []
    for wanted in (1, 2, 3, 4, 5, 6, 9, 13):
        store.ensure(wanted)
        sizes.append(store.num_blocks)
    assert sizes == [1, 2, 4, 4, 8, 8, 13, 13]
    with pytest.raises(CacheFullError, match=r"needed 14 blocks.* at most 13"):
        store.ensure(14)


@int8_and_not
def test_growth_keeps_what_is_stored(int8):
    store, tokens = make(int8=int8), rows(8)
    store.ensure(2)
    fill(store, list(range(8)), tokens)
    store.ensure(16)
    assert torch.equal(content(store, [0, 1], 8), as_stored(tokens, int8=int8))


@int8_and_not
def test_growth_holds_one_old_layer_at_most(int8, monkeypatch):
    store = make(int8=int8)
    store.ensure(3)
    old = [weakref.ref(store.layers[layer].planes[0]) for layer in range(LAYERS)]
    alive = []
    allocate = BlockStore._allocate

    def counted(self, blocks):
        alive.append(sum(plane() is not None for plane in old))
        return allocate(self, blocks)

    monkeypatch.setattr(BlockStore, "_allocate", counted)
    store.ensure(6)
    # When the memory of layer i is taken, those before it have been given back already.
    assert alive == [LAYERS - layer for layer in range(LAYERS)]
    assert all(plane() is None for plane in old)


@pytest.mark.parametrize("fails_at", range(LAYERS))
def test_when_memory_runs_out_nothing_is_lost_and_less_may_work(fails_at, monkeypatch):
    store, tokens = make(), rows(8)
    store.ensure(2)
    fill(store, list(range(8)), tokens)
    calls = iter(range(10))
    allocate = BlockStore._allocate

    def failing(self, blocks):
        if next(calls) == fails_at:
            raise RuntimeError("out of memory")
        return allocate(self, blocks)

    monkeypatch.setattr(BlockStore, "_allocate", failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        store.ensure(8)
    assert store.num_blocks == 2
    assert torch.equal(content(store, [0, 1], 8), tokens)
    store.ensure(5)
    fill(store, [19], rows(1, seed=1))
    assert torch.equal(content(store, [0, 1], 8), tokens)
    assert torch.equal(content(store, [4], 4)[:, :, 3:], rows(1, seed=1))


# --- copies


@int8_and_not
def test_copies_the_first_tokens_in_every_layer(int8):
    store, first, second = make(int8=int8), rows(4), rows(4, seed=1)
    store.ensure(8)
    fill(store, [4, 5, 6, 7], first)
    fill(store, [28, 29, 30, 31], second)
    store.copy([Copy(1, 7, 3)])
    expected = as_stored(torch.cat((first[:, :, :3], second[:, :, 3:]), dim=2), int8=int8)
    assert torch.equal(content(store, [7], 4), expected)
    assert torch.equal(content(store, [1], 4), as_stored(first, int8=int8))


def test_copies_are_made_in_order_and_make_room():
    store, tokens = make(), rows(4)
    store.ensure(1)
    fill(store, [0, 1, 2, 3], tokens)
    store.copy([Copy(0, 3, 4), Copy(3, 6, 2)])
    assert torch.equal(content(store, [6], 2), tokens[:, :, :2])
    store.copy([])
    assert store.num_blocks == 7


# --- export and load


@int8_and_not
def test_what_is_exported_can_be_loaded_elsewhere(int8):
    store, other, tokens = make(int8=int8), make(int8=int8), rows(10)
    store.ensure(8)
    poison(store)
    fill(store, [*range(20, 24), *range(8, 12), 28, 29], tokens)
    tensors = store.export([5, 2, 7], 10)
    assert {name: tuple(t.shape) for name, t in tensors.items()} == {
        "keys": (LAYERS, 10, HEADS, SIZE),
        "values": (LAYERS, 10, HEADS, SIZE),
    } | ({"key_scales": (LAYERS, 10, HEADS), "value_scales": (LAYERS, 10, HEADS)} if int8 else {})
    assert tensors["keys"].dtype == (torch.int8 if int8 else torch.float32)
    assert all(t.is_contiguous() for t in tensors.values())

    other.load([9, 3, 1, 0], 3, tensors)
    assert other.num_blocks == 10
    back = content(other, [9, 3, 1, 0], 13)[:, :, 3:]
    assert torch.equal(back, content(store, [5, 2, 7], 10))
    # Once more round: INT8 is not rounded a second time.
    again = other.export([9, 3, 1, 0], 13)
    assert all(torch.equal(again[name][:, 3:], tensors[name]) for name in tensors)


def test_an_export_is_a_copy():
    store, tokens = make(), rows(4)
    store.ensure(1)
    fill(store, [0, 1, 2, 3], tokens)
    tensors = store.export([0], 4)
    poison(store)
    assert torch.equal(torch.stack((tensors["keys"], tensors["values"]), 1), tokens)


def test_nothing_exported_is_loaded_as_nothing():
    store = make()
    store.ensure(1)
    store.load([], 0, store.export([], 0))
    assert store.export([], 0)["keys"].shape == (LAYERS, 0, HEADS, SIZE)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.pop("values"),
        lambda t: t.update(more=t["keys"]),
        lambda t: t.update(keys=t["keys"].double()),
        lambda t: t.update(keys=t["keys"][:1]),
        lambda t: t.update(keys=t["keys"][0]),
        lambda t: t.update(values=t["values"][:, :1]),
        lambda t: t.update(values=t["values"][..., :4]),
        lambda t: t.clear(),
    ],
)
def test_tensors_of_another_store_are_refused(change):
    store = make()
    tensors = {name: torch.zeros(LAYERS, 4, HEADS, SIZE) for name in ("keys", "values")}
    store.load([0], 0, tensors)
    change(tensors)
    with pytest.raises(ParameterError, match=r"tensors: are .*; this store takes"):
        store.load([0], 0, tensors)


def test_int8_and_floats_are_not_mixed_up():
    store = make(int8=True)
    store.ensure(1)
    fill(store, [0], rows(1))
    with pytest.raises(ParameterError, match="tensors"):
        make().load([0], 0, store.export([0], 1))


@pytest.mark.parametrize("start", [-1, 1, 5])
def test_tensors_that_do_not_fit_into_the_blocks_are_refused(start):
    tensors = {name: torch.zeros(LAYERS, 4, HEADS, SIZE) for name in ("keys", "values")}
    with pytest.raises(ParameterError, match=rf"blocks: are 1 blocks of 4, .* {start} to {start + 4}"):
        make().load([0], start, tensors)
