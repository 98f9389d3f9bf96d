"""Clips through the engine: what the network is given, caches, batches, conversations, errors."""

import asyncio
import base64
import dataclasses
import io
import threading

import numpy as np
import pytest
import torch
from films import animation, frames, video

from glmflash import Clip, ClipPolicy, ImageError, InputPolicy, Pipeline, openai, prepare
from glmflash.answers import AnswerCache
from glmflash.engine.clips import read_clip
from glmflash.engine.inputs import build_prompt, read_pictures
from glmflash.engine.overflow import too_long
from glmflash.errors import FetchError, InputError
from glmflash.media.clips import open_clip
from glmflash.media.patches import ClipPatches
from glmflash.model.cache import NoCache

FILM = frames(12)
OPTIONS = {"max_new_tokens": 6, "ignore_eos": True, "temperature": 0}


@pytest.fixture(scope="module")
def open_pipe(nano_checkpoint):
    """A function that makes pipelines over random weights, with nothing cached; all are closed in the end."""
    opened = []

    def make(**settings):
        opened.append(Pipeline.from_pretrained(nano_checkpoint, dtype="float32", device="cpu", **settings))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


@pytest.fixture(scope="module")
def pipe(open_pipe):
    return open_pipe()


def clip(first=0, count=6, **given):
    return Clip(FILM[first : first + count], **({"timestamps": [i / 2 for i in range(count)]} | given))


def laid_out(pipe, **question):
    engine = pipe.engine
    request = prepare.request(prepare.question("What?", **question), {}, defaults=engine.generation)
    seen = read_pictures(
        request, engine.preprocessor, InputPolicy(), video_preprocessor=engine.video_preprocessor
    )
    return build_prompt(request, seen, tokenizer=engine.tokenizer, config=engine.model.config)


def by_hand(pipe, inputs, count):
    """Greedy tokens without any cache, scheduler or chunk: everything computed again for each."""
    model, ids, positions = pipe.engine.model, list(inputs.prompt.ids), inputs.prompt.positions
    vision = [model.encode_images(one.rows, [one.grid])[0] for one in inputs.pictures]
    place, chosen = torch.from_numpy(positions.copy()), []
    for _ in range(count):
        embeds = model.embed(torch.tensor(ids), vision, inputs.prompt.spans)
        logits = model(embeds, place, NoCache([len(ids)]))[-1, : pipe.engine.tokenizer.vocab_size]
        chosen.append(int(logits.argmax()))
        ids.append(chosen[-1])
        place = torch.cat([place, torch.full((3, 1), len(ids) - 1 + inputs.prompt.delta)], dim=1)
    return tuple(chosen)


QUESTIONS = {
    "a clip": {"videos": clip()},
    "two clips": {"videos": [clip(), clip(4, 3)]},
    "pictures and clips": {"images": [FILM[0], FILM[7]], "videos": [clip(), clip(3, 5)]},
    "a film": {"videos": Clip(FILM, fps=4)},
    "an animation": {"videos": animation(FILM[:4], 250)},
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_an_answer_is_what_the_network_says_by_hand(pipe, name):
    asked = QUESTIONS[name]
    inputs = laid_out(pipe, **asked)
    result = pipe("What?", **asked, **OPTIONS)
    assert result.token_ids == by_hand(pipe, inputs, 6)
    assert result.usage.prompt == len(inputs.prompt)
    assert result.usage.image == sum(span.length for span in inputs.prompt.spans)


def test_a_prompt_has_a_run_for_each_pair_of_frames(pipe):
    inputs = laid_out(pipe, images=FILM[0], videos=[clip(), clip(0, 3)])
    assert len(inputs.pictures) == len(inputs.prompt.spans) == 1 + 3 + 2
    assert [one.digest for one in inputs.pictures] == [span.digest for span in inputs.prompt.spans]
    assert inputs.sizes == ((64, 48),) * 3


def test_the_same_clip_again_costs_no_prefill(open_pipe):
    pipe = open_pipe()
    cold = pipe("What?", videos=clip(), **OPTIONS)
    warm = pipe("What?", videos=clip(), **OPTIONS)
    assert warm.token_ids == cold.token_ids
    assert (cold.usage.saved_prefill, warm.usage.saved_prefill) == (0, warm.usage.prompt - 1)


def test_vision_tokens_of_a_clip_are_kept_for_another_place(open_pipe):
    pipe = open_pipe()
    cold = pipe("Other words in front of it", system="Be brief.", videos=clip(), **OPTIONS)
    pipe2 = open_pipe()
    pipe2("What?", videos=clip(), **OPTIONS)
    seen = pipe2.stats().vision
    warm = pipe2("Other words in front of it", system="Be brief.", videos=clip(), **OPTIONS)
    assert pipe2.stats().vision.entries == seen.entries == 3
    assert pipe2.stats().vision.hits == seen.hits + 3
    assert warm.token_ids == cold.token_ids


def test_clips_that_begin_alike_share_what_they_both_begin_with(open_pipe):
    pipe = open_pipe()
    pipe("What?", videos=clip(0, 6), **OPTIONS)
    other = [*FILM[:4], FILM[9], FILM[10]]
    longer = Clip(other, timestamps=[i / 2 for i in range(6)])
    alone = open_pipe()("What?", videos=longer, **OPTIONS)
    shared = pipe("What?", videos=longer, **OPTIONS)
    inputs = laid_out(pipe, videos=longer)
    assert inputs.prompt.spans[2].start <= shared.usage.cached < inputs.prompt.spans[2].start + 4
    assert shared.token_ids == alone.token_ids


def test_a_picture_and_a_clip_of_it_share_nothing(open_pipe):
    """Their patches are other numbers: one frame, and two."""
    still = laid_out(open_pipe(), images=FILM[0])
    pair = laid_out(open_pipe(), videos=Clip([FILM[0]] * 2, timestamps=[0, 0]))
    assert still.pictures[0].digest != pair.pictures[0].digest
    pipe = open_pipe()
    alone = open_pipe()("What?", videos=Clip([FILM[0]] * 2, timestamps=[0, 0]), **OPTIONS)
    pipe("What?", images=FILM[0], **OPTIONS)
    assert (
        pipe("What?", videos=Clip([FILM[0]] * 2, timestamps=[0, 0]), **OPTIONS).token_ids == alone.token_ids
    )


def test_when_it_is_shown_counts_too(open_pipe):
    """The same frames at other times are another prompt, whose vision tokens are there already."""
    pipe = open_pipe()
    pipe("What?", videos=clip(), **OPTIONS)
    later = pipe("What?", videos=clip(timestamps=[9, 9, 9, 9, 9, 9]), **OPTIONS)
    assert later.usage.cached < later.usage.prompt - 1
    assert pipe.stats().vision.misses == 3


def test_an_answer_is_kept_for_this_clip_and_no_other(open_pipe):
    pipe = open_pipe(answer_cache=AnswerCache())
    first = pipe("What?", videos=clip(), **OPTIONS)
    again = pipe("What?", videos=clip(), **OPTIONS)
    assert (first.from_cache, again.from_cache) == (False, True)
    assert again.token_ids == first.token_ids
    others = [clip(1), clip(timestamps=[9] * 6), clip(0, 5, timestamps=[0, 1, 2, 3, 4])]
    assert [pipe("What?", videos=one, **OPTIONS).from_cache for one in others] == [False] * 3


def test_a_batch_is_what_each_is_alone(open_pipe):
    items = [{"text": "What?", **asked, **OPTIONS} for asked in QUESTIONS.values()]
    together = open_pipe().batch(items)
    alone = [open_pipe().batch([item])[0] for item in items]
    assert [one.token_ids for one in together] == [one.token_ids for one in alone]


def test_every_way_of_asking_takes_clips(pipe):
    expected = pipe("What?", videos=clip(), **OPTIONS).token_ids
    parts = [{"type": "video", "video": clip()}, {"type": "text", "text": "What?"}]
    assert pipe.chat([{"role": "user", "content": parts}], **OPTIONS).token_ids == expected
    with pipe.stream("What?", videos=clip(), **OPTIONS) as stream:
        assert len(list(stream)) > 0
    assert stream.result.token_ids == expected
    assert pipe.submit({"text": "What?", "videos": clip()}, **OPTIONS).result().token_ids == expected


async def _astream(pipe):
    return [delta async for delta in pipe.astream("What?", videos=clip(), **OPTIONS)]


def test_an_event_loop_takes_clips(pipe):
    assert asyncio.run(_astream(pipe))


def test_a_session_reads_a_clip_once(open_pipe):
    reads = []

    class Once(list):
        def __iter__(self):
            reads.append(1)
            return super().__iter__()

    pipe = open_pipe()
    with pipe.session() as session:
        session.ask("What?", images=FILM[0], videos=Clip(Once(FILM[:4]), fps=2), **OPTIONS)
        second = session.ask("And then?", **OPTIONS)
        assert len(reads) == 1
        assert second.usage.cached > 0
        kept = [part for message in session.messages for part in message["content"] if isinstance(part, dict)]
        assert [type(part.get("video")) for part in kept if part["type"] == "video"] == [ClipPatches]
        fresh = open_pipe().chat(session.messages[:-1], **OPTIONS)
        assert fresh.token_ids == second.token_ids
        assert session._repr_html_().count("<img") == 3  # the picture, and two pairs of frames


def test_max_image_tokens_is_for_each_pair(pipe):
    few = pipe("What?", videos=clip(), max_image_tokens=2, **OPTIONS)
    assert few.usage.image == 3 * 2


def test_max_frames_takes_fewer(pipe):
    assert len(laid_out(pipe, videos=clip(max_frames=2)).pictures) == 1
    assert len(laid_out(pipe, videos=clip(max_frames=5)).pictures) == 3
    assert len(laid_out(pipe, videos=Clip(FILM, fps=1, max_frames=5)).pictures) == 3


def test_a_temporary_array_may_change_afterwards(pipe):
    """A clip that a session has read is a copy of what was given."""
    mutable = [frame.copy() for frame in FILM[:4]]
    read = pipe.engine.read(Clip(mutable, fps=2))
    before = [group.rows.clone() for group in read.groups]
    for frame in mutable:
        frame[:] = 0
    assert all(torch.equal(group.rows, rows) for group, rows in zip(read.groups, before, strict=True))


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"images": clip()}, ImageError, "give it as videos="),
        ({"videos": FILM[0]}, ImageError, "has shape"),
        ({"videos": "no.mp4"}, ImageError, r"'no\.mp4'"),
        ({"images": FILM[0], "videos": [clip(), "no.mp4"]}, ImageError, r"clip 3 of 3: 'no\.mp4'"),
        ({"videos": Clip([FILM[0], FILM[1][:20]], fps=1)}, ImageError, "one size"),
        ({"videos": Clip([], fps=1)}, ImageError, "no frames"),
    ],
)
def test_what_cannot_be_used_ends_that_request_alone(pipe, asked, error, message):
    neighbour = pipe.submit({"text": "What?", "videos": clip()}, **OPTIONS)
    with pytest.raises(error, match=message):
        pipe("What?", **asked, **OPTIONS)
    assert neighbour.result().token_ids == pipe("What?", videos=clip(), **OPTIONS).token_ids


def test_a_clip_that_is_too_long_for_the_context_is_explained(pipe):
    engine = pipe.engine
    inputs = laid_out(pipe, videos=Clip(FILM, fps=4))
    request = prepare.request(
        prepare.question("What?", videos=Clip(FILM, fps=4)), {}, defaults=engine.generation
    )
    error = too_long(inputs.prompt, request, tokenizer=engine.tokenizer, limit=60)
    assert f"{len(inputs.pictures)} pictures and pairs of frames" in str(error)


def test_a_clip_that_nobody_waits_for_is_not_read_to_its_end(pipe):
    begun, go_on, reads = threading.Event(), threading.Event(), []

    class Slow(np.ndarray):
        def __getitem__(self, index):
            reads.append(index)
            begun.set()
            go_on.wait(10)
            return np.asarray(self)[index]

    film = Clip(np.stack(FILM).view(Slow), timestamps=list(range(12)))
    future = pipe.submit({"text": "What?", "videos": film}, **OPTIONS)
    assert begun.wait(10)
    future.cancel()
    go_on.set()
    assert pipe("What?", videos=clip(), **OPTIONS).finish_reason == "length"
    assert len(reads) < 3


def test_an_address_is_not_fetched(pipe):
    part = {"type": "video_url", "video_url": {"url": "https://example.org/a.mp4"}}
    with pytest.raises(FetchError):
        pipe.chat([{"role": "user", "content": [part]}])


def test_a_clip_is_not_encoded_as_a_picture(pipe):
    with pytest.raises(InputError, match="a clip is given as a picture"):
        pipe.encode(clip())


def test_the_policy_of_the_pipeline_holds(open_pipe):
    strict = open_pipe(input_policy=InputPolicy(clips=ClipPolicy(max_frames=5)))
    with pytest.raises(ImageError, match=r"ClipPolicy\.max_frames"):
        strict("What?", videos=clip(), **OPTIONS)


def test_the_time_is_written_by_the_family(pipe):
    engine = pipe.engine
    older = dataclasses.replace(engine.video_preprocessor, family="Glm4v")
    assert read_clip(Clip(FILM, fps=4), engine.video_preprocessor, InputPolicy()).stamps[1] == "0.5 seconds"
    assert read_clip(Clip(FILM, fps=4), older, InputPolicy()).stamps == ("0", "1", "2")


def test_a_clip_in_a_body_of_openai(pipe):
    url = "data:image/webp;base64," + base64.b64encode(animation(FILM[:4], 250)).decode()
    parts = [{"type": "video_url", "video_url": {"url": url}}, {"type": "text", "text": "What?"}]
    body = {"messages": [{"role": "user", "content": parts}], "max_tokens": 6, "temperature": 0}
    answer = openai.create(pipe, body)
    direct = pipe("What?", videos=animation(FILM[:4], 250), max_new_tokens=6, temperature=0)
    assert answer["choices"][0]["message"]["content"] == direct.text
    assert answer["usage"]["prompt_tokens"] == direct.usage.prompt


@pytest.mark.extras
@pytest.mark.parametrize(("form", "codec"), [("mp4", "libx264"), ("webm", "libvpx-vp9")])
def test_a_real_video_comes_to_an_answer(form, codec, tmp_path):
    """By path, bytes and file; the embedded model was not trained on clips, so it is asked for no sense."""
    av = pytest.importorskip("av")
    data = video(frames(45, 112, 168), form=form, codec=codec)
    path = tmp_path / f"bar.{form}"
    path.write_bytes(data)
    with Pipeline.from_pretrained("tiny") as pipe:
        asked = {"max_new_tokens": 8}
        cold = pipe("What is the total?", videos=path, **asked)
        assert cold.usage.image > 0
        for source in (str(path), data, io.BytesIO(data), Clip(path)):
            warm = pipe("What is the total?", videos=source, **asked)
            assert warm.token_ids == cold.token_ids
            assert warm.usage.saved_prefill == warm.usage.prompt - 1
        with av.open(str(path)) as container:
            decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        by_frames = pipe("What is the total?", videos=Clip(decoded, fps=30), **asked)
        assert by_frames.token_ids == cold.token_ids
        assert by_frames.usage.saved_prefill == by_frames.usage.prompt - 1  # the very same pixels
        assert open_clip(Clip(path)).timeline.duration == 1.5
        still = pipe("What is the total?", images=decoded[0], videos=path, **asked)
        assert still.usage.image > cold.usage.image
