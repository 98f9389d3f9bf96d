"""What every test may ask for: the larger test data, and the two lengths of property testing."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from glmflash.model import Glm4v
from glmflash.testing import random_checkpoint
from glmflash.weights import load_model, resolve

settings.register_profile("default", deadline=None, max_examples=30, derandomize=True)
settings.register_profile(
    "long", deadline=None, max_examples=2000, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("default")


@pytest.fixture(scope="session")
def nano_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint with random weights, in the layout of the hub. Read it; never write to it."""
    return random_checkpoint(tmp_path_factory.mktemp("checkpoints") / "nano", "nano")


@pytest.fixture(scope="session")
def nano_model(nano_checkpoint: Path) -> Glm4v:
    """That checkpoint, loaded."""
    return load_model(nano_checkpoint, device="cpu")


@pytest.fixture(scope="session", params=["random", "trained"])
def world(request: pytest.FixtureRequest, nano_checkpoint: Path):
    """Engines and questions over a checkpoint: see `engine_world.World`."""
    from engine_world import open_world

    return open_world(nano_checkpoint if request.param == "random" else resolve("tiny"), request.param)


@pytest.fixture(scope="session")
def known(world):
    """Questions for that checkpoint, and the answer to each, asked alone with nothing cached."""
    questions = world.questions("known", 24)
    return list(zip(questions, world.cold(questions), strict=True))


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of goldens, tokenizers and hostile pictures; without it the test is skipped."""
    folder = os.environ.get("GLMFLASH_TEST_DATA")
    if not folder:
        pytest.skip("GLMFLASH_TEST_DATA is not set")
    return Path(folder)
