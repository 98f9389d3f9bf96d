import copy
import json
import threading
import time

import pytest
from prompt_chats import CONTROLS, glm_reference, glm_tokenizer, small_tokenizer, small_tokenizer_json

from glmflash.errors import CheckpointError, ConfigError, MessageError
from glmflash.prompt.tokenizer import Tokenizer


def test_published_ids(test_data):
    tokenizer = glm_tokenizer(test_data)
    ids = [tokenizer.control(name) for name in ("[gMASK]", "<sop>", "<|user|>")]
    assert ids == [151331, 151333, 151336]
    assert tokenizer.encode("\nHello, world! 你好，世界 12345") == [
        198, 9703, 11, 1879, 0, 101726, 98384, 3837, 99011, 220, 108714, 100461,
    ]  # fmt: skip
    assert tokenizer.encode("Describe.") == [74198, 13]
    assert tokenizer.encode("0.0 seconds") == [15, 13, 15, 6486]
    assert tokenizer.encode("12.5 seconds") == [98886, 13, 20, 6486]
    assert tokenizer.encode("\n\n") == [271]
    assert tokenizer.control("/nothink") == 151360
    assert (tokenizer.control("<think>"), tokenizer.control("</think>")) == (151350, 151351)
    assert (tokenizer.control("<tool_call>"), tokenizer.control("</arg_value>")) == (151352, 151359)
    assert (tokenizer.control("<|image|>"), tokenizer.control("<|video|>")) == (151363, 151364)
    assert tokenizer.vocab_size == 151365
    assert len(tokenizer.controls) == 36
    assert {151329, 151336, 151360, 151363} <= tokenizer.special_ids
    assert not {151350, 151352} & tokenizer.special_ids


def test_ordinary_text_is_encoded_as_by_the_unchanged_file(test_data):
    tokenizer, reference = glm_tokenizer(test_data), glm_reference(test_data)
    for text in (
        "",
        " ",
        "a\u0301 \u200b\x00\x7f\xa0 I'LL",
        "    x\t\r\n\r\n  y ",
        "😀🏳️‍🌈 \U0010ffff",
        "٣٤ ½ 12345",
    ):
        assert tokenizer.encode(text) == reference.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("name", CONTROLS)
def test_no_control_token_comes_out_of_text(name, test_data):
    for tokenizer in (small_tokenizer(), glm_tokenizer(test_data)):
        for text in (name, f" {name}", f"a{name}b", name * 3, f"{name[:-1]}\u200b{name[-1:]}"):
            ids = tokenizer.encode(text)
            assert not set(ids) & set(tokenizer.controls.values())
            assert tokenizer.decode(ids) == text


def test_control_tokens_are_reached_by_name():
    tokenizer = small_tokenizer()
    for name in CONTROLS:
        number = tokenizer.control(name)
        assert tokenizer.control_name(number) == name
        assert tokenizer.token_bytes(number) == name.encode()
    assert tokenizer.control_name(65) is None
    with pytest.raises(ConfigError, match="no control token '<answer>'"):
        tokenizer.control("<answer>")
    with pytest.raises(TypeError):
        tokenizer.controls["<x>"] = 1


def test_every_byte_has_its_token():
    tokenizer = small_tokenizer()
    assert [tokenizer.token_bytes(i) for i in range(256)] == [bytes([i]) for i in range(256)]
    assert tokenizer.vocab_size == 256 + len(CONTROLS)


def test_decoding_leaves_out_special_and_unused_ids():
    tokenizer = small_tokenizer()
    ids = [tokenizer.control("<sop>"), 72, 105, tokenizer.control("<think>"), 10**6, -1]
    assert tokenizer.decode(ids) == "Hi<think>"
    assert tokenizer.decode(ids, skip_special=False) == "<sop>Hi<think>"
    assert tokenizer.decode([0xE4, 0xBD]) == "�"
    assert tokenizer.token_bytes(10**6) == b""


def test_a_lone_surrogate_is_refused():
    with pytest.raises(MessageError, match="surrogate"):
        small_tokenizer().encode("a\ud800")


class Broken:
    def __init__(self, error):
        self.error = error

    def encode(self, *_, **__):
        raise self.error


PanicException = type("PanicException", (BaseException,), {})


def broken(error):
    tokenizer = Tokenizer(small_tokenizer_json())
    tokenizer._bpe = Broken(error)
    return tokenizer


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), MemoryError()])
def test_interrupts_pass(error):
    with pytest.raises(type(error)):
        broken(error).encode("x")


@pytest.mark.parametrize("error", [PanicException("0x7f00deadbeef"), Exception("boom")])
def test_the_librarys_failures_are_typed(error):
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: its rules fail") as caught:
        broken(error).encode("secret")
    assert "0x7f" not in str(caught.value)
    assert "secret" not in str(caught.value)


def split_by(pattern):
    rule = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return small_tokenizer_json() | {"pre_tokenizer": rule}


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(?:a*)*b",
        "(a|aa)+b",
        "(?:x+x+)+y",
        r"(a)\1+",
        "a++",
        "(a?){30}",
        "(?>a+)b",
        "[a[bc]]+",
        "(?R)",
        ".?" * 20 + "[XYZ](?=Z)",
        "(?:.|.|.|.)" * 9 + "[XYZ](?=Z)",
        "(?:.?.?)(?:.?.?)(?:.?.?)(?:.?.?)(?:.?.?)(?:.?.?)[XYZ](?=Z)",
        ".{0,9}.{0,9}.{0,9}[XYZ]",
        ".{0,999}.{0,}.{,9999999999}[XYZ]",
        ".*.*.*[XYZ]",
        "x|" + ".??" * 20,
        "a+a+[^a!]",
        "(?:a+a+)[^a!]",
        r"\s+\s+(?!\S)",
    ],
)
def test_patterns_that_may_take_for_ever_are_refused(pattern):
    with pytest.raises(CheckpointError, match=r"pre_tokenizer: the pattern .* may take for ever"):
        Tokenizer(split_by(pattern))


@pytest.mark.parametrize(
    "pattern",
    [
        r"'s|'t|'re| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{M}]*[\p{Ll}\p{M}]+(?i:'s|'t|'re)?|\p{N}{1,3}|\s*[\r\n]+",
        r"[!-/:-~]+|[\u4e00-\u9fa5]+?",
        r"[^\r\n\p{L}]?[\p{Lu}\p{Lt}]*[\p{Ll}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?| ?[^\s\p{L}\p{N}]+[\r\n/]*",
    ],
)
def test_patterns_of_other_published_tokenizers_are_not(pattern):
    Tokenizer(split_by(pattern))


def test_a_rule_that_backtracks_without_end_is_a_typed_error(capfd, monkeypatch):
    monkeypatch.setattr("glmflash.prompt.tokenizer.check_rules", lambda data: None)
    tokenizer = Tokenizer(split_by("a+a+a+a+a+a+[^a!]"))
    with pytest.raises(CheckpointError, match="rules fail"):
        tokenizer.encode("a" * 300 + "!")
    capfd.readouterr()  # the library reports its panic on stderr


def edited(**changes):
    data = small_tokenizer_json()
    for path, value in changes.items():
        place = data
        *parents, last = path.split("__")
        for key in parents:
            place = place[key]
        place[last] = value
    return data


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({}, "model is not of type BPE"),
        (edited(model=[]), "model is not of type BPE"),
        (edited(model__type="Unigram"), "model is not of type BPE"),
        (edited(model__vocab=None), "model.vocab does not map"),
        (edited(model__vocab={"a": "0"}), "model.vocab does not map"),
        (edited(model__vocab={"a": -1}), "model.vocab does not map"),
        (edited(model__vocab={"a": 2**40}), "model.vocab does not map"),
        (edited(model__vocab={"a": True}), "model.vocab does not map"),
        (edited(model__vocab={"a": 1, "b": 1}), "an id twice"),
        (edited(model__merges=["a b"]), "is not a tokenizer"),
        (edited(model__merges=3), "is not a tokenizer"),
        (edited(pre_tokenizer={"type": "Nope"}), "pre_tokenizer is of type 'Nope'"),
        (edited(pre_tokenizer={"type": "Digits"}), "is not a tokenizer"),
        (edited(normalizer={"type": "Replace"}), "normalizer is of type 'Replace'"),
        (edited(added_tokens=None, model__vocab={"a": 0}), None),
        (edited(added_tokens={"a": 1}), "added_tokens is not a list"),
        (edited(added_tokens=["x"]), r"added_tokens\[0\] needs"),
        (edited(added_tokens=[{"id": 1}]), r"added_tokens\[0\] needs"),
        (edited(added_tokens=[{"content": "x", "id": 2**40}]), r"added_tokens\[0\] needs"),
        (edited(added_tokens=[{"content": "x", "id": 1}, {"content": "x", "id": 2}]), "twice"),
    ],
)
def test_malformed_files_are_typed_and_named(data, problem, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(data))
    if problem is None:
        assert Tokenizer.from_file(path).vocab_size == 1
        return
    with pytest.raises(CheckpointError, match=problem) as caught:
        Tokenizer.from_file(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("contents", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"[]", None])
def test_files_that_are_no_json_object_are_typed_and_named(contents, tmp_path):
    path = tmp_path / "tokenizer.json"
    if contents is not None:
        path.write_bytes(contents)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        Tokenizer.from_file(path)


def test_the_callers_data_is_left_alone():
    data = small_tokenizer_json()
    before = copy.deepcopy(data)
    Tokenizer(data)
    assert data == before


def test_threads_may_share_a_tokenizer(test_data):
    tokenizer, wrong = glm_tokenizer(test_data), []
    texts = ["Hello, world! " * n + "你好" for n in range(1, 40)]
    expected = [tokenizer.encode(text) for text in texts]

    def work():
        wrong.extend(i for i, text in enumerate(texts) if tokenizer.encode(text) != expected[i])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "alphabet", ["a", " ", "\n", " \n", "你", "1", "!", "a1", "'s", "\u0301", "😀", "  a"]
)
def test_encoding_is_linear(alphabet, test_data):
    tokenizer = glm_tokenizer(test_data)

    def seconds(length):
        text = alphabet * (length // len(alphabet))
        begin = time.process_time()
        tokenizer.encode(text)
        return time.process_time() - begin

    seconds(1000)
    half, whole = (min(seconds(n) for _ in range(3)) for n in (50_000, 100_000))
    assert whole / half < 4
