"""The card: what it counts, how it reads, and that it comes back from JSON or is refused."""

import json
import re
from html.parser import HTMLParser

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from glmflash import ConfigError
from glmflash.ops.int8 import KERNELS
from glmflash.quant import Card, KeptCard, LayerCard, Measured, QuantizationConfig, card, measured, quantize_
from glmflash.weights import load_model, save_pretrained


def made(name="layers.0.proj", *, error=0.0087, scheme="int8", kernel="fbgemm") -> LayerCard:
    return LayerCard(name, (8, 16), scheme, kernel, error, 256, 192)


KEPT = (KeptCard("embeddings", "bfloat16", 1, 2048), KeptCard("norms", "float32", 4, 128))
FIGURE = Measured("receipts", "exact match", 0.997, 0.995, "by hand")
FULL = Card(
    tuple(made(f"layers.{n}.{part}", error=n / 1000) for n in range(40) for part in "abc"), KEPT, (FIGURE,)
)


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 4, 2), nn.Embedding(10, 8), nn.LayerNorm(8), nn.Linear(8, 8), nn.Linear(8, 4, bias=False)
    )
    layers.append(nn.Embedding(10, 8))
    layers[5].weight = layers[1].weight  # tied: held once
    layers.bfloat16()
    quantize_(layers, match="3")
    return layers


def test_it_counts_what_there_is(module):
    found = card(module)
    (layer,) = found.layers
    assert (layer.name, layer.shape, layer.scheme, layer.bytes_before) == ("3", (8, 8), "int8", 128)
    assert layer.bytes_after == module[3].nbytes
    kept = {one.kind: (one.dtype, one.tensors, one.bytes) for one in found.kept}
    assert kept == {
        "convolutions": ("bfloat16", 2, 2 * (4 * 3 * 4 + 4)),
        "embeddings": ("bfloat16", 1, 160),
        "norms": ("bfloat16", 2, 32),
        "linear layers": ("bfloat16", 1, 64),
        "biases of INT8 layers": ("bfloat16", 1, 16),
    }
    assert found.bytes_before == 128 + 104 + 160 + 32 + 64 + 16
    assert found.bytes_after == found.bytes_before - 128 + layer.bytes_after


def test_every_byte_that_the_model_holds_is_on_it():
    model = load_model("tiny", device="cpu", quantize="int8", progress=False)
    held = {id(one): one.nbytes for one in [*model.parameters(), *model.buffers()]}
    own = sum(layer.packed.nbytes for layer in model.modules() if hasattr(layer, "packed"))
    assert card(model).bytes_after == sum(held.values()) + own


def test_layers_of_a_kind_share_a_line():
    text = str(FULL)
    assert len(text.splitlines()) < 15
    assert [(one.kind, one.count, one.errors) for one in FULL.groups] == [
        (f"layers.*.{part}", 40, (0.0, 0.0195, 0.039)) for part in "abc"
    ]
    assert re.search(r"layers\.\*\.a +40 +int8 +fbgemm +0\.00 % +1\.95 % +3\.90 % +10\.2 kB +7\.7 kB", text)
    assert "largest errors: layers.39.a 3.90 %" in text
    assert re.search(r"kept: embeddings +1 +bfloat16 +2\.0 kB +2\.0 kB", text)
    assert "receipts, exact match 0.9970 -> 0.9950 (-0.0020)  (by hand)" in text
    table = text.split("\n\n")[1].splitlines()
    assert len({len(line) for line in table}) == 1  # aligned, the last column to the right


def test_layers_computed_in_other_ways_have_lines_of_their_own():
    layers = made("a.1.b"), made("a.2.b", scheme="w8a8"), made("a.3.b", kernel="onednn"), made("a.x4.b")
    assert [one.kind for one in Card(layers).groups] == ["a.*.b", "a.*.b", "a.*.b", "a.x4.b"]


def test_the_worst_come_first():
    assert [layer.name for layer in FULL.worst(4)] == [
        "layers.39.a",
        "layers.39.b",
        "layers.39.c",
        "layers.38.a",
    ]
    assert Card(()).worst() == ()


def test_one_line_for_an_interpreter():
    assert repr(FULL) == "<Card: 120 INT8 layers, 32.9 kB -> 25.2 kB, largest error 3.90 %>"
    assert repr(Card(())) == "<Card: no INT8 layers>"
    assert str(Card(())).startswith("0 layers in INT8")


def test_figures_are_added_and_never_lost():
    two = Card((made(),)).with_measured(FIGURE).with_measured(Measured("charts", "exact match", 0.5, 0.75))
    assert [one.name for one in two.measured] == ["receipts", "charts"]
    assert two.measured[1].delta == 0.25
    assert two.measured[0].delta == -0.002


names = st.text(min_size=1, max_size=4)
cards = st.builds(
    Card,
    layers=st.lists(
        st.builds(
            LayerCard,
            name=names,
            shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
            scheme=st.sampled_from(["int8", "w8a8"]),
            kernel=names,
            error=st.floats(0, 1),
            bytes_before=st.integers(0, 10**12),
            bytes_after=st.integers(0, 10**12),
        ),
        max_size=2,
    ).map(tuple),
    kept=st.lists(
        st.builds(KeptCard, names, names, st.integers(0, 9), st.integers(0, 10**12)), max_size=1
    ).map(tuple),
    measured=st.lists(
        st.builds(Measured, names, names, st.floats(-9, 9), st.floats(-9, 9), names), max_size=1
    ).map(tuple),
)


@pytest.mark.property
@settings(max_examples=20)
@given(cards)
def test_json_there_and_back(one):
    assert Card.from_dict(json.loads(json.dumps(one.to_dict(), allow_nan=False))) == one
    assert str(one)
    Reader().feed(one._repr_html_())


@pytest.mark.property
@given(cards, st.data())
def test_any_value_replaced_by_nonsense_is_refused_with_its_place(one, data):
    full = Card((made(), *one.layers), (*KEPT, *one.kept), (FIGURE, *one.measured)).to_dict()
    section = data.draw(st.sampled_from(sorted(full)))
    entry = data.draw(st.sampled_from(full[section]))
    key = data.draw(st.sampled_from(sorted(entry)))
    entry[key] = data.draw(st.sampled_from([None, {}, [[]], True, float("nan")]))
    if (key, entry[key]) == ("source", None):
        return
    with pytest.raises(ConfigError, match=rf"quantization\.json: {section}\[\d+\]: {key} is "):
        Card.from_dict(full, where="quantization.json")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data.pop("layers"), "card: layers is None; allowed: a list of objects"),
        (lambda data: data.update(layers={}), r"card: layers is \{\}"),
        (lambda data: data.update(version=1), "card: has 'version'; allowed: layers, kept, measured"),
        (lambda data: data["layers"].append(3), r"card: layers\[120\]: is 3; allowed: an object"),
        (lambda data: data["kept"][0].update(more=1), r"card: kept\[0\]: has 'more'"),
        (lambda data: data["layers"][0].update(scheme="int4"), "scheme is 'int4'; allowed: 'int8' or 'w8a8'"),
        (lambda data: data["layers"][0].update(shape=[1, 2, 3]), "shape is .* allowed: two whole numbers"),
        (lambda data: data["layers"][0].update(shape=[0, 2]), "shape is .* allowed: two whole numbers"),
        (lambda data: data["layers"][0].update(error=-0.1), "error is -0.1; allowed: a number, not below 0"),
        (lambda data: data["layers"][0].update(bytes_after=-1), "bytes_after is -1"),
        (lambda data: data["layers"][0].update(bytes_after=1.5), "bytes_after is 1.5"),
    ],
)
def test_what_is_no_card_is_refused(change, said):
    data = FULL.to_dict()
    change(data)
    with pytest.raises(ConfigError, match=said):
        Card.from_dict(data)


@pytest.mark.parametrize("data", [None, [], "card", 3])
def test_what_is_no_object_is_refused(data):
    with pytest.raises(ConfigError, match="allowed: an object"):
        Card.from_dict(data)


class Reader(HTMLParser):
    """Tags in order, and text; tags must close in the order in which they opened."""

    EMPTY = ("circle", "line")

    def __init__(self) -> None:
        super().__init__()
        self.open, self.tags, self.texts = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def read(one: Card) -> Reader:
    reader = Reader()
    reader.feed(one._repr_html_())
    reader.close()
    assert not reader.open
    return reader


def test_a_notebook_shows_bars_a_plot_and_a_table():
    page = read(FULL)
    tags = [tag for tag, _ in page.tags]
    assert tags.count("circle") == 120
    assert tags.count("tr") == 121
    assert {"svg", "details", "summary"} <= set(tags)
    assert "script" not in tags
    text = " ".join(page.texts)
    for part in ("layers.*.a ×40", "kept: embeddings ×1", "0.9950", "layers.39.a: 3.90 %", "all 120 layers"):
        assert part in text
    assert "circle" not in [tag for tag, _ in read(Card((), KEPT)).tags]
    heights = [float(about["cy"]) for tag, about in page.tags if tag == "circle"]
    assert heights == sorted(heights, reverse=True)  # errors rise from layer to layer: up is less y
    assert all(0 <= height <= 180 for height in heights)


def test_whatever_stands_on_it_is_escaped():
    evil = "<script>'\"&"
    layers = tuple(made(evil, kernel=evil, error=error) for error in (0.0, 0.1))
    page = read(Card(layers, (KeptCard(evil, evil, 1, 1),), (Measured(evil, evil, 0, 1, evil),)))
    assert "script" not in [tag for tag, _ in page.tags]
    assert "".join(page.texts).count(evil) >= 8


@pytest.mark.parametrize("kernel", ["fbgemm", "onednn"])
@pytest.mark.parametrize("scheme", ["int8", "w8a8"])
def test_the_embedded_model_has_its_measured_figures(scheme, kernel):
    (found,) = (one for one in KERNELS if one.name == kernel)
    if found.why_not(torch.device("cpu")):
        pytest.skip("does not run here")
    config = QuantizationConfig(scheme=scheme, kernel=kernel)
    figures = card(load_model("tiny", device="cpu", quantize=config, progress=False)).measured
    assert figures
    bar = {"int8": 0.005, "w8a8": 0.015}[scheme]
    assert all(-bar <= one.delta <= bar for one in figures)
    assert all(f"check.py --seed N --count 500 --quantize {scheme}" in one.source for one in figures)


def test_figures_outlive_saving(tmp_path):
    model = load_model("tiny", device="cpu", quantize="int8", progress=False)
    again = load_model(save_pretrained(model, tmp_path, source="tiny"), device="cpu", progress=False)
    assert card(again) == card(model)


def test_another_model_and_other_weights_have_none(monkeypatch):
    tower = nn.Sequential(*(nn.Linear(4, 4) for _ in range(3)))
    quantize_(tower)
    digest = measured.layers_digest(tower)
    entry = {
        "layers": 3,
        "digest": digest,
        "figures": [{"name": "a", "metric": "b", "before": 1, "after": 1}],
    }
    monkeypatch.setattr(measured, "_entries", lambda: [entry])
    assert [one.name for one in card(tower).measured] == ["a"]
    assert card(tower[:2]).measured == ()
    tower[1].scheme = "w8a8"
    assert card(tower).measured == ()
    tower[1].scheme = "int8"
    tower[2].weight_sum[0] += 1
    assert card(tower).measured == ()
    assert card(nn.Linear(2, 2)).measured == ()
