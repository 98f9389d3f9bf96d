"""Every error is also a builtin, has a code of its own, and survives a process boundary."""

import copy
import pickle

import pytest

from glmflash import errors

NAMES = [name for name in errors.__all__ if name != "GlmflashError"]
BUILTINS = (ValueError, OSError, RuntimeError, TimeoutError, ArithmeticError, AssertionError)


def make(name: str) -> errors.GlmflashError:
    kind = getattr(errors, name)
    named = kind in (errors.ParameterError, errors.ExtractionError)
    return kind("top_k", "is -1; allowed: 0 or more") if named else kind("a message")


@pytest.mark.parametrize("name", NAMES)
def test_each_is_also_a_builtin(name):
    assert isinstance(make(name), errors.GlmflashError)
    assert isinstance(make(name), BUILTINS)


@pytest.mark.parametrize("name", NAMES)
def test_each_can_be_pickled_and_copied(name):
    error = make(name)
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (type(twin), str(twin), vars(twin)) == (type(error), str(error), vars(error))


def test_codes_are_distinct():
    codes = [getattr(errors, name).code for name in errors.__all__]
    assert len(set(codes)) == len(codes)


def test_a_parameter_error_names_the_parameter():
    assert str(make("ParameterError")) == "top_k: is -1; allowed: 0 or more"
    assert make("ParameterError").parameter == "top_k"
