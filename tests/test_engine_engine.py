"""What must fit together in a checkpoint is checked when it is loaded, not at the first question."""

import dataclasses

import pytest

from glmflash import CheckpointError, ConfigError, Engine, ParameterError
from glmflash.config import GenerationConfig
from glmflash.engine.settings import Settings
from glmflash.prompt import Tokenizer
from glmflash.weights import load_generation, load_preprocessor


@pytest.fixture
def parts(nano_checkpoint, nano_model):
    return {
        "model": nano_model,
        "tokenizer": Tokenizer.from_file(nano_checkpoint / "tokenizer.json"),
        "preprocessor": load_preprocessor(nano_checkpoint),
        "generation": load_generation(nano_checkpoint),
    }


def make(parts, **changes):
    given = parts | changes
    return Engine(given.pop("model"), given.pop("tokenizer"), **given)


def test_parts_of_one_checkpoint_fit(parts):
    assert make(parts).eos == frozenset(parts["generation"].eos_token_id)


def test_end_tokens_come_from_config_json_where_there_are_no_others(parts):
    engine = make(parts, generation=GenerationConfig())
    assert engine.eos == frozenset(parts["model"].config.eos_token_id)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"eos_token_id": (10**6,)}, "eos_token_id"),
        ({"eos_token_id": (-1,)}, "eos_token_id"),
        ({"do_sample": True, "temperature": 500.0}, "temperature"),
        ({"top_p": -1.0}, "top_p"),
    ],
)
def test_generation_defaults_out_of_range(parts, changes, problem):
    with pytest.raises(ConfigError, match=problem):
        make(parts, generation=dataclasses.replace(parts["generation"], **changes))


def test_nothing_ends_an_answer(parts, monkeypatch):
    model = parts["model"]
    monkeypatch.setattr(model, "config", dataclasses.replace(model.config, eos_token_id=()))
    with pytest.raises(ConfigError, match="eos_token_id"):
        make(parts, generation=GenerationConfig())


def test_a_tokenizer_of_another_checkpoint(parts, monkeypatch):
    model, whole = parts["model"], parts["model"].config
    small = dataclasses.replace(whole.text, vocab_size=100)
    monkeypatch.setattr(model, "config", dataclasses.replace(whole, text=small))
    with pytest.raises(CheckpointError, match="different checkpoints"):
        make(parts)
    monkeypatch.setattr(model, "config", dataclasses.replace(whole, image_token_id=5))
    with pytest.raises(CheckpointError, match=r"<\|image\|>"):
        make(parts)


def test_the_policy_is_checked_at_once():
    with pytest.raises(ParameterError, match="input_policy"):
        Settings(policy={"max_bytes": 1})
