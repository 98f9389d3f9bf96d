"""Of any byte that is not as it was written nothing is read; and nothing that is read runs code."""

import hashlib
import json
import math
import pickle
import sys
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmflash.answers import AnswerCache, MemoryAnswers
from glmflash.answers import record as module
from glmflash.answers.record import read, write
from glmflash.engine.recorded import Recorded
from glmflash.engine.sampler import Sampled
from glmflash.output.result import TokenLogprob

KEY = "0123456789abcdef" * 4
IDS = st.integers(0, 2**31 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
REASONS = st.sampled_from(["stop", "length", "repetition"])
BARE = st.builds(Recorded, st.lists(st.builds(Sampled, IDS), max_size=20).map(tuple), REASONS)
LOGPROBS = st.lists(
    st.tuples(IDS, FLOATS, st.lists(st.tuples(IDS, FLOATS), max_size=3).map(tuple)), min_size=1, max_size=8
).map(lambda rows: tuple(Sampled(one, TokenLogprob(one, value, top)) for one, value, top in rows))
TOLD = BARE | st.builds(Recorded, LOGPROBS, REASONS)

unpickled: list[object] = []
sys.addaudithook(lambda event, args: unpickled.append(args) if event == "pickle.find_class" else None)


def sealed(**changes) -> bytes:
    """Bytes with a right checksum, whatever they say."""
    fields = {
        "format": 1, "key": KEY, "made": 5.0, "finish_reason": "stop", "ids": [1, 2], "logprobs": None,
    } | changes  # fmt: skip
    body = json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()
    return module._HEAD + hashlib.sha256(body).hexdigest().encode() + module._MIDDLE + body + module._TAIL


def mutated(data: bytes, rng: Random) -> bytes:
    """One to four accidents: bits, bytes, pieces lost, doubled, moved, cut, or something else entirely."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place, other = (rng.randrange(len(out) + 1) for _ in range(2))
        low, high = sorted((place, other))
        match rng.randrange(8):
            case 0 if out:
                out[place % len(out)] ^= 1 << rng.randrange(8)
            case 1 if out:
                out[place % len(out)] = rng.randrange(256)
            case 2:
                out[place:place] = rng.randbytes(rng.randint(1, 9))
            case 3:
                del out[low:high]
            case 4:
                out[low:low] = out[low:high][:50]
            case 5:
                del out[place:]
            case 6:
                out = bytearray(
                    rng.choice([b"", b"null", b"{}", b"[" * 5000, pickle.dumps(print), b"\x80\x04"])
                )
            case _:
                out = bytearray(out.replace(b"1", b"2") if rng.random() < 0.5 else out.swapcase())
    return bytes(out)


@pytest.mark.property
@given(TOLD, st.floats(0, 1e11))
def test_what_is_written_is_read(answer, made):
    assert read(write(answer, key=KEY, made=made), key=KEY) == (answer, made)


@pytest.mark.property
@given(TOLD)
def test_it_is_json_that_anyone_can_look_at(answer):
    document = json.loads(write(answer, key=KEY, made=1.0))
    assert document["answer"]["key"] == KEY
    assert document["answer"]["ids"] == [one.token_id for one in answer.tokens]


def test_every_bit_counts():
    data = write(Recorded((Sampled(7), Sampled(8)), "stop"), key=KEY, made=1.0)
    for place in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            with pytest.raises(ValueError, match="no answer"):
                read(bytes(changed), key=KEY)
        with pytest.raises(ValueError, match="no answer"):
            read(data[:place], key=KEY)


@pytest.mark.property
def test_ten_thousand_mutated_values_are_all_misses_and_none_runs_anything():
    rng = Random(26)
    store = MemoryAnswers()
    cache = AnswerCache(store)
    plain = tuple(Sampled(rng.randrange(1000)) for _ in range(30))
    told = tuple(Sampled(i, TokenLogprob(i, -0.5 - i, ((i, -0.5), (3, -2.25)))) for i in range(9))
    answers = [Recorded(plain, "stop"), Recorded(told, "length"), Recorded((), "repetition")]
    values = [write(answer, key=KEY, made=2e9) for answer in answers]
    unpickled.clear()
    misses = 0
    while misses < 10_000:
        data = rng.choice(values)
        changed = mutated(data, rng)
        if changed in values:
            continue
        store.put(KEY, changed, 60)
        assert cache.find(KEY) is None
        misses += 1
    assert cache.errors == misses
    assert unpickled == []


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2}, {"format": True}, {"format": "1"}, {"format": ...},
        {"key": "0" * 64}, {"key": KEY[:-1]}, {"key": None},
        {"made": 5}, {"made": None}, {"made": "5.0"},
        {"finish_reason": "cancelled"}, {"finish_reason": ""}, {"finish_reason": None}, {"finish_reason": 1},
        {"ids": None}, {"ids": [1.0]}, {"ids": [True]}, {"ids": ["1"]}, {"ids": [-1]}, {"ids": [2**31]},
        {"ids": {}},
        {"logprobs": []}, {"logprobs": [[-1.0, []]]}, {"logprobs": [1, 2]}, {"logprobs": [[-1, []]] * 2},
        {"logprobs": [[-1.0, [[1]]]] * 2}, {"logprobs": [[-1.0, [[1.5, -1.0]]]] * 2}, {"logprobs": {}},
        {"logprobs": [[math.nan, []]] * 2}, {"logprobs": [[math.inf, []]] * 2},
        {"more": 1},
    ],
)  # fmt: skip
def test_a_right_checksum_is_not_enough(changes):
    assert read(sealed(), key=KEY)[0] == Recorded((Sampled(1), Sampled(2)), "stop")
    with pytest.raises(ValueError, match="no answer"):
        read(sealed(**changes), key=KEY)


@pytest.mark.parametrize("data", [None, 7, "text", bytearray(b"{}"), memoryview(b""), [], object()])
def test_what_is_no_bytes_is_no_answer(data):
    with pytest.raises(ValueError, match="no answer"):
        read(data, key=KEY)


def test_nothing_too_large_is_written_or_read(monkeypatch):
    answer = Recorded((Sampled(7),) * 100, "stop")
    data = write(answer, key=KEY, made=1.0)
    monkeypatch.setattr(module, "MOST_BYTES", len(data) - 1)
    with pytest.raises(ValueError, match="bytes"):
        write(answer, key=KEY, made=1.0)
    with pytest.raises(ValueError, match="no answer"):
        read(data, key=KEY)


def test_numbers_that_are_not_finite_are_not_written():
    answer = Recorded((Sampled(7, TokenLogprob(7, -math.inf)),), "stop")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write(answer, key=KEY, made=1.0)
