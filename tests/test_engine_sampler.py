"""The sampler: goldens by hand, laws, and the same distributions as transformers."""

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glmflash.engine.sampler import RowState, Sampled, keep_candidates, sample
from glmflash.engine.sampling import Sampling
from glmflash.errors import NumericsError, ParameterError

VOCAB = 50


def logits_of(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32)


def random_logits(rows: int, seed: int = 0, vocab: int = VOCAB) -> torch.Tensor:
    return 3 * torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed))


def token(logits: torch.Tensor, state: RowState, vocab_size: int | None = None) -> int:
    (one,) = sample(logits, [state], vocab_size=vocab_size or logits.shape[1])
    assert isinstance(one, Sampled), one
    return one.token_id


def candidates(logits: list[float], **parameters: float) -> list[int]:
    return keep_candidates(torch.tensor(logits), Sampling(temperature=1.0, **parameters))[0].tolist()


def test_greedy_takes_the_first_of_equals() -> None:
    assert token(logits_of([0, 5, 1, 5]), RowState(Sampling())) == 1


def test_unused_rows_are_never_chosen() -> None:
    logits = logits_of([0, 1, 9, math.nan])
    assert token(logits, RowState(Sampling()), 2) == 1
    hot = Sampling(temperature=100.0, seed=0, logprobs=5)
    for _ in range(50):
        (one,) = sample(logits, [RowState(replace(hot, seed=None))], vocab_size=2)
        assert one.token_id < 2
        assert len(one.logprob.top) == 2


def test_top_p_after_top_k_renormalises() -> None:
    """With top_k 2 and top_p 0.6 the second survives only if the first has p < 0.6 of the two."""
    first, second, rest = math.log(0.59), math.log(0.41), math.log(5.0)
    assert candidates([first, second, -rest], top_k=2, top_p=0.6) == [0, 1]
    assert candidates([math.log(0.61), math.log(0.39), -rest], top_k=2, top_p=0.6) == [0]


@pytest.mark.parametrize(
    ("parameters", "kept"),
    [
        ({"top_k": 2}, [0, 1]),
        ({"top_k": 99}, [0, 1, 2, 3]),
        ({"top_p": 0.0}, [0]),
        ({"top_p": 0.45}, [0]),
        ({"top_p": 0.7}, [0, 1]),
        ({"top_p": 0.99}, [0, 1, 2, 3]),
        ({"min_p": 1.0}, [0]),
        ({"min_p": 0.5}, [0, 1]),
        ({"min_p": 0.3, "top_p": 0.95}, [0, 1, 2]),
    ],
)
def test_who_is_left(parameters, kept) -> None:
    assert candidates([math.log(p) for p in (0.5, 0.3, 0.15, 0.05)], **parameters) == kept


def test_top_k_keeps_equals_of_the_last() -> None:
    assert candidates([1, 3, 1, 0], top_k=2) == [0, 1, 2]


def test_top_p_of_equals_keeps_the_lowest_ids() -> None:
    assert candidates([2, 2, 2, 2], top_p=0.5) == [0, 1]


def test_a_tiny_temperature_is_nearly_greedy() -> None:
    for temperature in (1e-300, 1e-6, 1e-3):
        state = RowState(Sampling(temperature=temperature))
        assert token(random_logits(1), state) == int(random_logits(1).argmax())


def test_the_penalty_covers_prompt_and_answer() -> None:
    logits = logits_of([2.0, 1.9, 1.8, -1.0])
    state = RowState(Sampling(repetition_penalty=1.5), prompt=[0, 7, 10**6])  # two beyond the vocabulary
    assert token(logits, state) == 1
    state.accept(1)
    assert token(logits, state) == 2
    state.accept(2)
    assert token(logits, state) == 0
    assert token(logits_of([-2.0, -2.5]), RowState(Sampling(repetition_penalty=2.0), prompt=[0])) == 1


def test_a_seed_repeats_and_no_seed_does_not() -> None:
    logits = torch.zeros(1, 1000)

    def draw(seed: int | None) -> list[int]:
        state = RowState(Sampling(temperature=1.0, seed=seed))
        return [token(logits, state) for _ in range(5)]

    assert draw(1) == draw(1) != draw(2)
    assert draw(None) != draw(None)


def test_the_global_generator_is_not_touched() -> None:
    before = torch.get_rng_state()
    token(random_logits(1), RowState(Sampling(temperature=1.0)))
    assert torch.equal(torch.get_rng_state(), before)


def test_logits_are_not_changed() -> None:
    logits = random_logits(1)

    def scribble(_, scores: torch.Tensor) -> torch.Tensor:
        return scores.zero_()

    sampling = Sampling(temperature=0.5, repetition_penalty=2.0, logits_processors=(scribble,))
    token(logits, RowState(sampling, prompt=[1]))
    assert torch.equal(logits, random_logits(1))


def test_frequencies_follow_the_probabilities() -> None:
    state = RowState(Sampling(temperature=1.0, seed=3))
    logits = logits_of([math.log(0.6), math.log(0.3), math.log(0.1)])
    counts = Counter(token(logits, state) for _ in range(2000))
    for index, probability in enumerate((0.6, 0.3, 0.1)):
        assert counts[index] / 2000 == pytest.approx(probability, abs=0.04)


SAMPLINGS = [
    Sampling(),
    Sampling(logprobs=3),
    Sampling(temperature=0.8, top_k=2, top_p=0.6, seed=1),
    Sampling(temperature=1.5, top_p=0.9, seed=2, logprobs=0),
    Sampling(temperature=1.0, min_p=0.1, seed=3),
    Sampling(repetition_penalty=1.3),
    Sampling(temperature=1.0, repetition_penalty=1.3, seed=4),
]


@given(st.permutations(range(len(SAMPLINGS))), st.integers(1, len(SAMPLINGS)), st.integers(0, 1000))
def test_a_row_is_the_same_alone_and_in_any_company(order: list[int], count: int, seed: int) -> None:
    logits = random_logits(len(SAMPLINGS), seed, vocab=VOCAB + seed % 7)

    def states() -> list[RowState]:
        return [RowState(sampling, prompt=[1, 2, 3]) for sampling in SAMPLINGS]

    chosen = order[:count]
    together = states()
    for _ in range(2):
        outcome = sample(logits[chosen], [together[index] for index in chosen], vocab_size=VOCAB)
    for index, one in zip(chosen, outcome, strict=True):
        state = states()[index]
        for _ in range(2):
            (alone,) = sample(logits[index : index + 1], [state], vocab_size=VOCAB)
        assert one == alone


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_logits_that_are_not_finite_fail_their_row_only(bad: float, sampling: Sampling) -> None:
    logits = random_logits(3)
    logits[1, 7] = bad
    states = [RowState(sampling) for _ in range(3)]
    first, second, third = sample(logits, states, vocab_size=VOCAB)
    assert isinstance(second, NumericsError)
    assert "not finite" in str(second)
    assert [first] == sample(random_logits(3)[:1], [RowState(sampling)], vocab_size=VOCAB)
    assert isinstance(third, Sampled)


def test_logprobs_are_those_of_the_models_own_logits() -> None:
    logits = random_logits(1)
    state = RowState(
        Sampling(temperature=2.0, top_k=3, seed=0, repetition_penalty=1.5, logprobs=4), prompt=[3]
    )
    (one,) = sample(logits, [state], vocab_size=VOCAB)
    expected = logits[0].log_softmax(-1)
    assert one.logprob.token_id == one.token_id
    assert one.logprob.logprob == pytest.approx(float(expected[one.token_id]), abs=1e-6)
    assert [index for index, _ in one.logprob.top] == expected.topk(4).indices.tolist()
    assert [value for _, value in one.logprob.top] == pytest.approx(
        expected.topk(4).values.tolist(), abs=1e-6
    )


def test_logprobs_of_equals_list_the_lowest_id_first() -> None:
    (one,) = sample(torch.zeros(1, 4), [RowState(Sampling(logprobs=4))], vocab_size=4)
    assert [index for index, _ in one.logprob.top] == [0, 1, 2, 3]


def test_processors_run_in_order_before_temperature() -> None:
    seen = []

    def first(ids, logits: torch.Tensor) -> torch.Tensor:
        seen.append((ids, logits.dtype, tuple(logits.shape)))
        return logits + 1

    def second(_, logits: torch.Tensor) -> torch.Tensor:
        assert logits[0] == 1
        return torch.where(torch.arange(3) == 2, logits, -math.inf)

    state = RowState(Sampling(logits_processors=(first, second)), prompt=[9])
    state.accept(1)
    assert token(logits_of([0, 5, -5, 99]), state, 3) == 2
    assert seen == [((1,), torch.float32, (3,))]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
def test_what_a_processor_raises_is_its_rows_alone(error: type[BaseException]) -> None:
    def fail(_, logits: torch.Tensor) -> torch.Tensor:
        raise error("mine")

    states = [RowState(Sampling()), RowState(Sampling(logits_processors=(fail,))), RowState(Sampling())]
    first, second, third = sample(random_logits(3), states, vocab_size=VOCAB)
    assert isinstance(second, error)
    assert [first, third] == sample(random_logits(3)[[0, 2]], [RowState(Sampling())] * 2, vocab_size=VOCAB)


@pytest.mark.parametrize(
    ("returned", "error"),
    [
        (None, ParameterError),
        ([1.0], ParameterError),
        (torch.zeros(VOCAB + 1), ParameterError),
        (torch.full((VOCAB,), math.nan), ParameterError),
        (torch.full((VOCAB,), math.inf), ParameterError),
        (torch.full((VOCAB,), -math.inf), ParameterError),
    ],
)
def test_what_a_processor_returns_is_checked(returned: object, error: type[Exception]) -> None:
    state = RowState(Sampling(temperature=1.0, logits_processors=(lambda *_: returned,)))
    (one,) = sample(random_logits(1), [state], vocab_size=VOCAB)
    assert isinstance(one, error)
    assert "processor" in str(one)


@pytest.mark.parity
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    "parameters",
    [
        {"temperature": 0.7},
        {"temperature": 0.8, "top_k": 2, "top_p": 0.6},
        {"temperature": 1.3, "top_k": 20},
        {"temperature": 1.0, "top_p": 0.9},
        {"temperature": 1.0, "min_p": 0.05},
        {"temperature": 0.9, "top_k": 30, "top_p": 0.95, "min_p": 0.02, "repetition_penalty": 1.2},
        {"temperature": 2.0, "repetition_penalty": 0.8},
    ],
)
def test_the_distribution_is_that_of_transformers(parameters: dict[str, float], seed: int) -> None:
    process = pytest.importorskip("transformers.generation.logits_process")
    logits, prompt = random_logits(1, seed), [1, 2, 2, 40, seed]
    steps = process.LogitsProcessorList()
    for name, kind in [
        ("repetition_penalty", process.RepetitionPenaltyLogitsProcessor),
        ("temperature", process.TemperatureLogitsWarper),
        ("top_k", process.TopKLogitsWarper),
        ("top_p", process.TopPLogitsWarper),
        ("min_p", process.MinPLogitsWarper),
    ]:
        if name in parameters:
            steps.append(kind(parameters[name]))
    expected = steps(torch.tensor([prompt]), logits.clone())[0].softmax(-1)

    caught = []
    state = RowState(
        Sampling(**parameters, logits_processors=(lambda _, x: caught.append(x) or x,)), prompt=prompt
    )
    token(logits, state)
    ids, scores = keep_candidates(caught[0], state.sampling)
    actual = torch.zeros(VOCAB).scatter(0, ids, scores.softmax(-1))
    torch.testing.assert_close(actual, expected, atol=1e-6, rtol=1e-5)
    assert torch.equal(actual > 0, expected > 0)
