"""Pictures and questions → typed answers, by GLM-4.6V-Flash inside your own program.

The way of the data, room by room:

    path, bytes, array ── media/ ──> RGB pixels ──> patches ─┐
                                                             ├─ model/ ──> logits ── engine/ ──> token ids
    messages ── prompt/ ──> token ids, keys and positions ───┤                                      │
                                    kv/ ── what is known ────┘                                      │
                                                  Result <── parsed text <── text <── output/ ──────┘

    hub id, folder ── weights/ ──> the loaded model

`Pipeline` wires the rooms; each can be used alone.
"""

from glmflash.answers import AnswerCache
from glmflash.engine import (
    AsyncStream,
    EncodedImage,
    Engine,
    Request,
    Sampling,
    Settings,
    Stats,
    Stream,
)
from glmflash.errors import (
    CacheFullError,
    CapacityError,
    CheckpointError,
    ClosedError,
    ConfigError,
    ContextLengthError,
    DeadlineError,
    DownloadError,
    EngineDeadError,
    ExtractionError,
    FetchError,
    GlmflashError,
    ImageError,
    InputError,
    MessageError,
    NumericsError,
    ParameterError,
    QuestionError,
    QueueFullError,
    RegressionError,
)
from glmflash.grammar import ResponseFormat
from glmflash.media import Clip, ClipPolicy, DataUrl, InputPolicy, PdfPages, Url, UrlPolicy, read_pdf
from glmflash.output import Box, Delta, Result, Table, Timings, TokenLogprob, ToolCall, Usage
from glmflash.pipeline import Pipeline
from glmflash.plan import Plan
from glmflash.quant import Card, QuantizationConfig
from glmflash.session import Session
from glmflash.spec import PipelineSpec
from glmflash.structured import Choices, Extraction
from glmflash.tools import ToolRun
from glmflash.version import __version__ as __version__

__all__ = [
    "AnswerCache",
    "AsyncStream",
    "Box",
    "CacheFullError",
    "CapacityError",
    "Card",
    "CheckpointError",
    "Choices",
    "Clip",
    "ClipPolicy",
    "ClosedError",
    "ConfigError",
    "ContextLengthError",
    "DataUrl",
    "DeadlineError",
    "Delta",
    "DownloadError",
    "EncodedImage",
    "Engine",
    "EngineDeadError",
    "Extraction",
    "ExtractionError",
    "FetchError",
    "GlmflashError",
    "ImageError",
    "InputError",
    "InputPolicy",
    "MessageError",
    "NumericsError",
    "ParameterError",
    "PdfPages",
    "Pipeline",
    "PipelineSpec",
    "Plan",
    "QuantizationConfig",
    "QuestionError",
    "QueueFullError",
    "RegressionError",
    "Request",
    "ResponseFormat",
    "Result",
    "Sampling",
    "Session",
    "Settings",
    "Stats",
    "Stream",
    "Table",
    "Timings",
    "TokenLogprob",
    "ToolCall",
    "ToolRun",
    "Url",
    "UrlPolicy",
    "Usage",
    "read_pdf",
]


def __dir__() -> list[str]:
    return __all__
