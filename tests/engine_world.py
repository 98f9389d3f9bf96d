"""Questions, engines, and answers with their logits: what tests of the engine's laws are made of."""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from torch import Tensor

from glmflash import InputPolicy, prepare
from glmflash.config import GenerationConfig, PreprocessorConfig
from glmflash.engine import runner
from glmflash.engine.engine import Engine
from glmflash.engine.inputs import build_prompt, read_pictures
from glmflash.engine.request import Request
from glmflash.engine.scheduler import Chunk
from glmflash.engine.settings import Settings
from glmflash.kv.store import block_bytes
from glmflash.model import Glm4v, NoCache
from glmflash.output.result import Result
from glmflash.prompt import Tokenizer
from glmflash.weights import load_generation, load_model, load_preprocessor

SCRIPTS = Path(__file__).parents[1] / "examples" / "tiny"
#: How many times longer than promised something may take, where the machine may be busy with other things.
BUSY = 1 if os.environ.get("GLMFLASH_QUIET_MACHINE") else 20
WORDS = "total price vendor of the a what is which box corner highest in this picture milk bread".split()


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: messages as `Pipeline.chat` takes them, and options."""

    messages: Sequence[dict]
    options: dict = field(default_factory=dict)

    def but(self, **options) -> "Question":
        return Question(self.messages, self.options | options)


def question(text: str, images: object = None, **options) -> Question:
    return Question(prepare.question(text, images=images), options)


@dataclass(frozen=True, slots=True)
class Answer:
    """A result, and the logits that each of its tokens was chosen from. Shapes: logits (T, V)."""

    result: Result
    logits: Tensor

    @property
    def ids(self) -> tuple[int, ...]:
        return self.result.token_ids


@dataclass(frozen=True, slots=True)
class Asked:
    """A question under way."""

    request: Request
    future: "Future[Result]"
    rows: list[Tensor]

    def answer(self) -> Answer:
        result = self.future.result(timeout=60)
        return Answer(result, torch.stack(self.rows) if self.rows else torch.empty(0))


@dataclass(frozen=True, slots=True)
class World:
    """A loaded checkpoint, engines over it, and questions for it.

    `bound` is how far logits may lie apart where the same numbers are computed in other shapes. With INT8
    keys and values it is `int8_bound`: a number that changes in its last digit may be rounded to another of
    the 255 steps. `int8_loss` is how far INT8 may be from float. docs/explanation/numerics-and-parity.md has
    what was measured.
    """

    name: str
    bound: float
    int8_bound: float
    int8_loss: float
    model: Glm4v
    tokenizer: Tokenizer
    preprocessor: PreprocessorConfig
    generation: GenerationConfig
    draw: Callable[[Random], Question]

    @contextmanager
    def engine(self, *, blocks: int | None = None, kv_dtype: str = "auto", **limits) -> Iterator[Engine]:
        if blocks is not None:
            limits["kv_memory"] = blocks * self.block_bytes(int8=kv_dtype == "int8")
        engine = Engine(
            self.model,
            self.tokenizer,
            preprocessor=self.preprocessor,
            generation=self.generation,
            settings=Settings(kv_dtype=kv_dtype, **limits),
        )
        try:
            yield engine
        finally:
            engine.close()

    def block_bytes(self, *, int8: bool = False) -> int:
        text = self.model.config.text
        return block_bytes(
            num_layers=text.num_hidden_layers,
            num_kv_heads=text.num_key_value_heads,
            head_dim=text.head_dim,
            int8=int8,
        )

    def questions(self, seed: object, count: int, **options) -> list[Question]:
        """Mixed ones: greedy and seeded, with none, one or two pictures, of any length."""
        rng = Random(f"{self.name} {seed}")
        drawn = []
        for _ in range(count):
            one = self.draw(rng).but(max_new_tokens=rng.randint(3, 12), ignore_eos=True)
            if rng.random() < 0.4:
                one = one.but(temperature=rng.choice([0.7, 1.3]), seed=rng.randrange(10**6))
            drawn.append(one.but(**options))
        return drawn

    def cold(self, questions: Iterable[Question], **limits) -> list[Answer]:
        """Each alone, one after the other, nothing cached."""
        with self.engine(**limits) as engine:
            return [ask(engine, one) for one in questions if forget(engine) is None]

    def check(self, got: Answer, wanted: Answer, *, bound: float | None = None) -> float:
        """The same tokens, and logits within the bound; returns how far they lie apart."""
        assert got.ids == wanted.ids
        assert got.result.text == wanted.result.text
        apart = float((got.logits - wanted.logits).abs().max())
        assert apart <= (self.bound if bound is None else bound), apart
        return apart

    def recompute(self, asked: Question, ids: Sequence[int]) -> Tensor:
        """Logits of an answer's tokens by one forward of the whole without a cache. Shapes: -> (T, V)."""
        request = to_request(asked, self.generation)
        pictures = read_pictures(request, self.preprocessor, InputPolicy())
        inputs = build_prompt(request, pictures, tokenizer=self.tokenizer, config=self.model.config)
        prompt, model = inputs.prompt, self.model
        with torch.inference_mode():
            vision = [model.encode_images(one.rows, [one.grid])[0] for one in inputs.pictures]
            whole = [*prompt.ids, *ids[:-1]]
            later = torch.arange(len(prompt), len(whole)).expand(3, -1) + prompt.delta
            positions = torch.cat((torch.tensor(prompt.positions), later), dim=1)
            rows = torch.arange(len(prompt) - 1, len(whole))
            embeds = model.embed(torch.tensor(whole), vision, prompt.spans)
            logits = model(embeds, positions, NoCache([len(whole)]), rows=rows)
        return logits[:, : self.tokenizer.vocab_size].float()


def to_request(asked: Question, defaults: GenerationConfig, **options) -> Request:
    """What engines take; greedy unless the question says otherwise."""
    return prepare.request(asked.messages, {"temperature": 0} | asked.options | options, defaults=defaults)


def start(engine: Engine, asked: Question) -> Asked:
    """Hand in a question; its logits are recorded by a processor that changes none."""
    rows: list[Tensor] = []

    def record(_: tuple[int, ...], logits: Tensor) -> Tensor:
        rows.append(logits.clone())
        return logits

    request = to_request(asked, engine.generation, logits_processors=[record])
    return Asked(request, engine.submit(request), rows)


def ask(engine: Engine, asked: Question) -> Answer:
    return start(engine, asked).answer()


def forget(engine: Engine, *, vision: bool = True) -> None:
    """Leave nothing in the caches that no request holds."""
    seen = engine._runner.vision
    engine.call(lambda pool, _: (pool.clear(), seen.clear() if vision else None)).result(10)


@contextmanager
def paused(engine: Engine, arrivals: int = 0) -> Iterator[None]:
    """Hold the worker; it goes on once so many requests, handed in meanwhile, are ready to run."""
    here, go = threading.Event(), threading.Event()
    engine.call(lambda *_: (here.set(), go.wait(60)))
    assert here.wait(10)
    try:
        yield
        until = time.monotonic() + 30
        while len(engine._inbox._letters) < arrivals and time.monotonic() < until:
            time.sleep(0.0005)
    finally:
        go.set()


def together(engine: Engine, questions: Sequence[Question]) -> list[Answer]:
    """All at once: they are in the line before the first of them runs."""
    with paused(engine, len(questions)):
        asked = [start(engine, one) for one in questions]
    return [one.answer() for one in asked]


def watch(monkeypatch: pytest.MonkeyPatch, look: Callable[[list[Chunk]], object]) -> None:
    """Have a function see the chunks of every forward, before it is computed."""
    forward = runner.forward

    def watched(model, store, chunks, **named):
        look(chunks)
        return forward(model, store, chunks, **named)

    monkeypatch.setattr(runner, "forward", watched)


def noise(rng: Random, *, largest: int = 4) -> np.ndarray:
    """A picture of noise, of up to so many times so many vision tokens."""
    shape = (28 * rng.randint(2, largest), 28 * rng.randint(2, largest), 3)
    return np.random.default_rng(rng.randrange(2**32)).integers(0, 256, shape, np.uint8)


def _noisy(rng: Random) -> Question:
    pictures = [noise(rng) for _ in range(rng.choice([0, 1, 1, 2]))]
    return question(" ".join(rng.choices(WORDS, k=rng.randint(1, 30))), pictures or None)


def _meant(rng: Random) -> Question:
    """A question that the embedded model has learned to answer, or the same without its picture."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS)
        from check import questions

        ((picture, turn),) = questions(seed=rng.randrange(10**6), count=1)
        ((other, _),) = questions(seed=rng.randrange(10**6), count=1)
    pictures = rng.choice([[], [picture], [picture], [picture], [other, picture]])
    return question(turn.question, pictures or None)


def open_world(folder: Path, name: str) -> World:
    """Load a checkpoint: "random" for noise, "trained" for meaning."""
    trained = name == "trained"
    model = load_model(folder, device="cpu", dtype="float32", progress=False)
    return World(
        name=name,
        bound=2e-4 if trained else 1e-5,
        int8_bound=0.3 if trained else 2e-3,
        int8_loss=1.5 if trained else 0.03,
        model=model,
        tokenizer=Tokenizer.from_file(folder / "tokenizer.json"),
        preprocessor=load_preprocessor(folder, vision=model.config.vision),
        generation=load_generation(folder),
        draw=_meant if trained else _noisy,
    )
