"""The accounts of an engine → the metrics that are exported: names, types, labels, meanings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from glmflash.engine.stats import Stats
from glmflash.output.result import FinishReason

__all__ = ["HISTOGRAMS", "INTER_TOKEN", "READ", "REFUSED", "TOKENS", "UP", "Metric", "Read"]

#: Stats → values, by the value of the metric's own label ("" if it has none).
Read = Callable[[Stats], Mapping[str, float]]

# Bounds of histograms: seconds of a request, seconds of a token, numbers of tokens.
_REQUEST = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0)
_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5)
_COUNT = (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0)


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Metric:
    """One exported metric. All have the label `model_name`.

    Args:
        name: As Prometheus shows it: behind `glmflash_`, that of vLLM where it has one of this meaning.
        kind: Its type.
        text: What it says.
        label: The label that it has besides, if any.
        buckets: The bounds of a histogram.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    text: str
    label: str = ""
    buckets: tuple[float, ...] = ()


UP = Metric("glmflash_up", "gauge", "Whether the engine answers: 0 once it is closed or dead")
REFUSED = Metric(
    "glmflash_requests_refused_total", "counter", "Requests refused at once: malformed, or no place in line",
    label="code",
)  # fmt: skip


def _one(read: Callable[[Stats], float]) -> Read:
    return lambda stats: {"": read(stats)}


def _gauge(name: str, text: str, read: Read, label: str = "") -> tuple[Metric, Read]:
    return Metric(f"glmflash_{name}", "gauge", text, label), read


def _counter(name: str, text: str, read: Read, label: str = "") -> tuple[Metric, Read]:
    return Metric(f"glmflash_{name}_total", "counter", text, label), read


def _blocks(stats: Stats) -> Mapping[str, float]:
    pool = stats.pool
    return {} if pool is None else {"used": pool.used, "cached": pool.cached, "free": pool.free}


def _usage(stats: Stats) -> Mapping[str, float]:
    pool = stats.pool
    return {} if pool is None else {"": pool.used / max(pool.num_blocks, 1)}


def _memory(stats: Stats) -> Mapping[str, float]:
    return {"model": stats.model_bytes, "kv": stats.kv_bytes, "vision_cache": stats.vision.bytes}


def _answers(stats: Stats) -> Mapping[str, float]:
    one = stats.answers
    return {} if one is None else {"hit": one.hits, "shared": one.shared, "miss": one.misses}


def _finished(stats: Stats) -> Mapping[str, float]:
    return {reason: stats.finished.get(reason, 0) for reason in get_args(FinishReason)}


#: What is read from `Stats` when it is asked for.
READ: dict[Metric, Read] = dict([
    _gauge("num_requests_running", "Requests being answered", _one(lambda stats: stats.running)),
    _gauge("num_requests_waiting", "Requests in line", _one(lambda stats: stats.waiting)),
    _gauge("kv_cache_usage_perc", "Part of the KV blocks in use, 0 to 1", _usage),
    _gauge("kv_blocks", "KV blocks: in use, kept for reuse, free", _blocks, "state"),
    _gauge("memory_bytes", "Memory of the weights, the KV blocks and the vision tokens", _memory, "part"),
    _gauge("vision_cache_entries", "Pictures with vision tokens kept", _one(lambda one: one.vision.entries)),
    _gauge("decode_tokens_per_second", "Tokens generated per second of the decoder's work, of late",
           _one(lambda stats: stats.tokens_per_second)),
    _counter("requests_submitted", "Requests accepted", _one(lambda stats: stats.submitted)),
    _counter("request_success", "Requests answered, by why the answer ended", _finished, "finished_reason"),
    _counter("request_failure", "Requests that ended with an error, or cancelled, by its code",
             lambda stats: stats.failed, "code"),
    _counter("prompt_tokens", "Tokens of prompts", _one(lambda stats: stats.prompt_tokens)),
    _counter("image_tokens", "Tokens of prompts that stand for pictures",
             _one(lambda stats: stats.image_tokens)),
    _counter("generation_tokens", "Tokens of answers, those answered before included",
             _one(lambda stats: stats.completion_tokens)),
    _counter("prefix_cache_queries", "Tokens of prompts that were looked for in the KV cache",
             _one(lambda stats: stats.prompt_tokens)),
    _counter("prefix_cache_hits", "Tokens of prompts whose KV was there, or the whole answer",
             _one(lambda stats: stats.cached_tokens)),
    _counter("saved_prefill_tokens", "Tokens that were not computed again thanks to any cache",
             _one(lambda stats: stats.saved_prefill)),
    _counter("vision_cache_queries", "Pictures that were looked for among the vision tokens kept",
             _one(lambda stats: stats.vision.hits + stats.vision.misses)),
    _counter("vision_cache_hits", "Pictures whose vision tokens were there",
             _one(lambda stats: stats.vision.hits)),
    _counter("num_preemptions", "Times a running request had to give its blocks back and wait",
             _one(lambda stats: stats.preemptions)),
    _counter("kv_block_evictions", "Cached KV blocks that gave way to new tokens",
             lambda stats: {} if stats.pool is None else {"": stats.pool.evictions}),
    _counter("answer_cache_requests", "Requests that may be answered with what was answered before", _answers,
             "outcome"),
])  # fmt: skip


def _seconds(name: str, text: str, buckets: tuple[float, ...] = _REQUEST) -> Metric:
    return Metric(f"glmflash_{name}_seconds", "histogram", text, buckets=buckets)


#: What is observed of answered requests: phases of `engine.stats.PHASES`.
HISTOGRAMS: dict[str, Metric] = {
    "total": _seconds("e2e_request_latency", "From submission to the last token"),
    "first_token": _seconds("time_to_first_token", "From submission to the first token"),
    "per_token": _seconds("request_time_per_output_token", "Mean over a request's later tokens", _TOKEN),
    "queue": _seconds("request_queue_time", "Waiting before work began"),
    "media": _seconds("request_media_time", "Reading and resizing pictures"),
    "vision": _seconds("request_vision_time", "The vision tower"),
    "prefill": _seconds("request_prefill_time", "Reading the prompt"),
    "decode": _seconds("request_decode_time", "Generating, after the first token"),
}
#: The same, of their tokens.
TOKENS: dict[str, Metric] = {
    "prompt": Metric("glmflash_request_prompt_tokens", "histogram", "Tokens of the prompt", buckets=_COUNT),
    "completion": Metric(
        "glmflash_request_generation_tokens", "histogram", "Tokens of the answer", buckets=_COUNT
    ),
}
INTER_TOKEN = _seconds("inter_token_latency", "Between two tokens of an answer", _TOKEN)
