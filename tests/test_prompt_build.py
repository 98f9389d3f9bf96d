import pytest
from prompt_chats import CONTROLS, glm_reference, glm_tokenizer, golden_chats, options, small_tokenizer

from glmflash.errors import ConfigError, ContextLengthError, MessageError, ParameterError
from glmflash.prompt.build import ClipLayout, build
from glmflash.prompt.messages import Image, Text, Video
from glmflash.prompt.template import Control, render, segments
from glmflash.shapes import Grid, ImageSpan

A, B = "a" * 64, "b" * 64
CONTROLS_OF_A_CLIP = ("begin_of_image", "end_of_image", "begin_of_video", "end_of_video")


def make(messages, images=(), **keywords):
    tokenizer = small_tokenizer()
    walk = segments(messages, thinking=keywords.pop("thinking", None))
    placeholder = tokenizer.control("<|image|>")
    keywords = {"tokenizer": tokenizer, "image_token_id": placeholder, "merge_size": 2} | keywords
    return build(walk, images=images, **keywords)


def user(*parts):
    return [
        {"role": "user", "content": [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts]}
    ]


PICTURE = {"type": "image", "image": "x"}


def neutral(value):
    """The same chat with no control token spelled in it, but for the think blocks that the template reads."""
    if isinstance(value, str):
        return value.replace("/nothink", "/neutral")
    if isinstance(value, list):
        return [neutral(item) for item in value]
    return {neutral(k): neutral(v) for k, v in value.items()} if isinstance(value, dict) else value


@pytest.mark.slow
def test_ids_of_neutral_chats_equal_those_of_the_rendered_string(test_data):
    tokenizer, reference = glm_tokenizer(test_data), glm_reference(test_data)
    untouched = 0
    for chat in golden_chats(test_data):
        messages = neutral(chat["messages"])
        untouched += messages == chat["messages"]
        ids = []
        for segment in segments(messages, **options(chat)):
            match segment:
                case Control(token):
                    ids.append(tokenizer.control(token))
                case Text(text):
                    ids += tokenizer.encode(text)
                case Image() | Video():
                    ids.append(tokenizer.control("<|image|>" if isinstance(segment, Image) else "<|video|>"))
        text = render(messages, **options(chat))
        assert ids == reference.encode(text, add_special_tokens=False).ids
        if messages == chat["messages"]:
            assert text == chat["text"]
    assert untouched >= 30


def test_published_ids(test_data):
    tokenizer = glm_tokenizer(test_data)
    keywords = {"tokenizer": tokenizer, "image_token_id": 151363, "merge_size": 2}
    walk = segments(user(PICTURE, "Describe."), thinking=False)
    prompt = build(walk, images=[(Grid(1, 4, 6), A)], **keywords)
    assert prompt.ids == (
        151331, 151333, 151336, 198, 151339, *[151363] * 6, 151340, 74198, 13, 151360, 151337, 198, 151350,
        151351, 198,
    )  # fmt: skip
    call = {"function": {"name": "f", "arguments": {"a": "x"}}}
    walk = segments([{"role": "assistant", "tool_calls": [call]}], add_generation_prompt=False)
    ids = build(walk, images=[], **keywords).ids
    assert ids[-12:] == (151352, 69, 198, 151356, 64, 151357, 198, 151358, 87, 151359, 198, 151353)


def test_pictures_get_their_room():
    prompt = make(user(PICTURE, "ab", PICTURE), [(Grid(1, 4, 6), A), (Grid(1, 2, 4), B)])
    placeholder = small_tokenizer().control("<|image|>")
    assert prompt.spans == (ImageSpan(5, 6, A), ImageSpan(15, 2, B))
    assert [i for i, token in enumerate(prompt.ids) if token == placeholder] == [*range(5, 11), 15, 16]
    for span in prompt.spans:
        around = prompt.ids[span.start - 1], prompt.ids[span.start + span.length]
        assert around == tuple(map(small_tokenizer().control, ("<|begin_of_image|>", "<|end_of_image|>")))
    assert prompt.positions.shape == (3, len(prompt))
    assert prompt.positions[0, 5:11].tolist() == [5] * 6
    assert prompt.positions[:, 11].tolist() == [8, 8, 8]
    assert prompt.delta == prompt.positions.max() + 1 - len(prompt)
    assert not prompt.positions.flags.writeable


def test_keys_name_text_by_id_and_pictures_by_content():
    prompt = make(user("a", PICTURE), [(Grid(1, 4, 4), A)])
    assert prompt.keys == (*prompt.ids[:6], *[(A, i) for i in range(4)], *prompt.ids[10:])
    assert len(set(prompt.keys[6:10])) == 4


def test_another_picture_shares_no_key():
    one, two = (make(user(PICTURE), [(Grid(1, 4, 4), digest)]) for digest in (A, B))
    assert one.ids == two.ids
    assert not set(one.keys[5:9]) & set(two.keys[5:9])


def test_salts_part_prompts_at_the_first_key():
    salts = [None, "", "x", "y"]
    firsts = [make(user("a"), cache_salt=salt).keys[0] for salt in salts]
    assert len(set(firsts)) == 4
    same = make(user("a"), cache_salt="x")
    assert same.keys == make(user("a"), cache_salt="x").keys
    assert same.keys[1:] == make(user("a")).keys[1:]
    assert same.ids == make(user("a")).ids


def test_an_answer_prefix_is_text_that_continues_the_prompt(test_data):
    tokenizer, reference = glm_tokenizer(test_data), glm_reference(test_data)
    messages = user("The total?")
    for thinking in (None, False):
        for prefix in ("\nTotal: ", "Total", " "):
            walk = segments(messages, thinking=thinking)
            prompt = build(
                walk, tokenizer=tokenizer, images=[], image_token_id=1, merge_size=2, answer_prefix=prefix
            )
            text = render(messages, thinking=thinking) + prefix
            assert list(prompt.ids) == reference.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("name", CONTROLS)
def test_no_control_token_comes_out_of_an_answer_prefix(name):
    controls = set(small_tokenizer().controls.values())
    plain, forged = make(user("a")), make(user("a"), answer_prefix=name)
    assert not set(forged.ids[len(plain) :]) & controls


def test_a_tail_of_nothink_is_the_references_token():
    typed, added = make(user("a/nothink"), thinking=False), make(user("a"), thinking=False)
    assert typed.ids == added.ids
    assert small_tokenizer().control("/nothink") not in make(user("a/nothink")).ids


@pytest.mark.parametrize("images", [[], [(Grid(1, 2, 2), A)] * 2])
def test_pictures_and_places_must_agree_in_number(images):
    with pytest.raises(MessageError, match=f"places for 1 pictures, but {len(images)} are given"):
        make(user(PICTURE), images)


def test_a_picture_used_twice_or_out_of_order_is_refused():
    for walk in ([Image(1), Image(0)], [Image(0), Image(0)]):
        with pytest.raises(MessageError, match="in order of appearance"):
            build(
                walk,
                tokenizer=small_tokenizer(),
                images=[(Grid(1, 2, 2), A)] * 2,
                image_token_id=1,
                merge_size=2,
            )


CLIP = {"type": "video", "video": "x"}


def test_a_clip_is_its_groups_of_frames_each_with_its_time():
    shown = ClipLayout(((Grid(1, 4, 6), A), (Grid(1, 4, 6), B)), ("0.0 seconds", "0.5 seconds"))
    prompt = make(user(PICTURE, CLIP, "What?"), [(Grid(1, 2, 4), B), shown])
    tokenizer, place = small_tokenizer(), small_tokenizer().control("<|image|>")
    own = {name: tokenizer.control(f"<|{name}|>") for name in CONTROLS_OF_A_CLIP}
    frame = [own["begin_of_image"], *[place] * 6, own["end_of_image"]]
    still = [own["begin_of_image"], *[place] * 2, own["end_of_image"]]
    told = [tokenizer.encode(stamp) for stamp in shown.stamps]
    body = [*still, own["begin_of_video"], *frame, *told[0], *frame, *told[1], own["end_of_video"]]
    start = prompt.ids.index(own["begin_of_image"])
    assert list(prompt.ids[start : start + len(body)]) == body
    assert [(span.length, span.digest) for span in prompt.spans] == [(2, B), (6, A), (6, B)]
    assert [prompt.keys[span.start] for span in prompt.spans] == [(B, 0), (A, 0), (B, 0)]
    for span in prompt.spans[1:]:
        at = slice(span.start, span.start + span.length)
        here = prompt.positions[:, at] - prompt.positions[:, span.start][:, None]
        assert here.tolist() == [[0] * 6, [0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2]]
        assert set(prompt.positions[:, span.start + 6]) == {prompt.positions[0, span.start] + 3}


def test_prompts_of_two_clips_share_what_they_both_begin_with():
    groups = [(Grid(1, 2, 2), A), (Grid(1, 2, 2), B)]
    one, two = (
        make(user(CLIP), [ClipLayout((groups[0], last), ("0.0 seconds", "1.0 seconds"))]) for last in groups
    )
    first = one.spans[1].start
    assert one.keys[:first] == two.keys[:first]
    assert one.keys[first] != two.keys[first]


@pytest.mark.parametrize(
    ("part", "shown"), [(PICTURE, ClipLayout(((Grid(1, 2, 2), A),), ("0",))), (CLIP, (Grid(1, 2, 2), A))]
)
def test_a_picture_is_no_clip(part, shown):
    with pytest.raises(MessageError, match="in the place of a clip"):
        make(user(part), [shown])


def test_a_clip_without_frames_given_is_missed():
    with pytest.raises(MessageError, match="1 pictures, but 0"):
        make(user(CLIP))


def test_a_control_token_that_the_checkpoint_lacks_is_a_config_error():
    with pytest.raises(ConfigError, match="<answer>"):
        build([Control("<answer>")], tokenizer=small_tokenizer(), images=[], image_token_id=1, merge_size=2)


def test_text_beyond_any_context_is_refused_before_it_is_encoded():
    with pytest.raises(ContextLengthError, match="more than 2,000,000 characters"):
        make(user("x" * 10_000_000))
    half = "x" * 1_500_000
    with pytest.raises(ContextLengthError, match="3,000,002 characters"):
        make(user(half), answer_prefix=half)


@pytest.mark.parametrize("keywords", [{"answer_prefix": None}, {"answer_prefix": 3}, {"cache_salt": 0}])
def test_parameters_of_the_wrong_type_are_named(keywords):
    with pytest.raises(ParameterError) as caught:
        make(user("a"), **keywords)
    assert caught.value.parameter == next(iter(keywords))


def test_an_empty_prompt_is_possible():
    prompt = build([], tokenizer=small_tokenizer(), images=[], image_token_id=1, merge_size=2, cache_salt="x")
    assert (len(prompt), prompt.keys, prompt.delta) == (0, (), 0)
