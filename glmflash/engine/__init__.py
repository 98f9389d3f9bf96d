"""Requests → tokens: scheduling, sampling, stopping, and the one thread that computes for all of them."""

from glmflash.engine.encoded import EncodedImage
from glmflash.engine.engine import Engine
from glmflash.engine.events import (
    AnswerReused,
    BlockEvicted,
    Event,
    Observer,
    Operation,
    PictureDecoded,
    Prefill,
    RequestFinished,
    RequestQueued,
    RequestRefused,
    TokenGenerated,
    VisionDone,
)
from glmflash.engine.recorded import Answers, AnswerStats, Recorded
from glmflash.engine.request import Request
from glmflash.engine.sampler import Sampled
from glmflash.engine.sampling import Sampling
from glmflash.engine.settings import Settings
from glmflash.engine.stats import Percentiles, Stats, VisionStats
from glmflash.engine.stream import AsyncStream, Stream

__all__ = [
    "AnswerReused",
    "AnswerStats",
    "Answers",
    "AsyncStream",
    "BlockEvicted",
    "EncodedImage",
    "Engine",
    "Event",
    "Observer",
    "Operation",
    "Percentiles",
    "PictureDecoded",
    "Prefill",
    "Recorded",
    "Request",
    "RequestFinished",
    "RequestQueued",
    "RequestRefused",
    "Sampled",
    "Sampling",
    "Settings",
    "Stats",
    "Stream",
    "TokenGenerated",
    "VisionDone",
    "VisionStats",
]


def __dir__() -> list[str]:
    return __all__
