"""Metrics for Prometheus: the numbers of the pipeline, well spelled, for any number of pipelines."""

import gc
import logging
import sys
import weakref

import numpy as np
import pytest

prometheus_client = pytest.importorskip("prometheus_client")

from prometheus_client import CollectorRegistry, generate_latest  # noqa: E402
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics  # noqa: E402
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strictly  # noqa: E402
from prometheus_client.parser import text_string_to_metric_families as parsed  # noqa: E402

from glmflash import InputError, ParameterError, Pipeline  # noqa: E402
from glmflash.observability import PrometheusMetrics  # noqa: E402
from glmflash.observability.metrics import HISTOGRAMS, INTER_TOKEN, READ, REFUSED, TOKENS, UP  # noqa: E402

pytestmark = pytest.mark.extras

PICTURE = np.full((56, 84, 3), 200, np.uint8)
HOW = {"ignore_eos": True, "repetition_stop": None}


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def pipe():
    with Pipeline.from_pretrained("tiny", progress=False) as pipe:
        yield pipe


def test_numbers_are_those_of_the_pipeline(pipe, registry) -> None:
    PrometheusMetrics(registry).add(pipe, model_name="tiny")
    results = [pipe("What is the total?", images=PICTURE, max_new_tokens=5, **HOW) for _ in range(3)]
    pipe.encode(PICTURE)
    with pytest.raises(InputError):
        pipe("a", images="absent.png")
    with pytest.raises(ParameterError):
        pipe("a", top_p=7)
    stats = pipe.stats()

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"glmflash_{name}", {"model_name": "tiny", **labels})

    assert value("up") == 1
    assert value("requests_submitted_total") == 4
    assert value("request_success_total", finished_reason="length") == 3
    assert value("request_success_total", finished_reason="stop") == 0
    assert value("request_failure_total", code="image_error") == 1
    assert value("requests_refused_total", code="parameter_error") == 1
    usages = [result.usage for result in results]
    assert value("prompt_tokens_total") == sum(usage.prompt for usage in usages)
    assert value("image_tokens_total") == sum(usage.image for usage in usages)
    assert value("generation_tokens_total") == 15
    assert value("prefix_cache_hits_total") == sum(usage.cached for usage in usages) > 0
    assert value("saved_prefill_tokens_total") == sum(usage.saved_prefill for usage in usages)
    assert value("vision_cache_queries_total") >= 1
    assert value("memory_bytes", part="model") == stats.model_bytes > 1e6
    assert value("memory_bytes", part="kv") == stats.kv_bytes > 0
    assert value("memory_bytes", part="vision_cache") == stats.vision.bytes > 0
    blocks = [value("kv_blocks", state=state) for state in ("used", "cached", "free")]
    assert sum(blocks) == stats.pool.num_blocks
    assert value("kv_cache_usage_perc") == 0
    for phase, metric in HISTOGRAMS.items():
        name = metric.name.removeprefix("glmflash_")
        assert value(f"{name}_count") == 3, phase
    assert value("e2e_request_latency_seconds_sum") == pytest.approx(
        sum(result.timings.total for result in results)
    )
    assert value("time_to_first_token_seconds_sum") == pytest.approx(
        sum(result.timings.first_token for result in results)
    )
    assert value("request_generation_tokens_sum") == 15
    assert value("inter_token_latency_seconds_count") == 12  # four gaps in each answer
    between = sum(result.timings.decode for result in results)
    assert value("inter_token_latency_seconds_sum") == pytest.approx(between, rel=0.2, abs=0.01)


def test_both_formats_are_well_formed(pipe, registry) -> None:
    PrometheusMetrics(registry).add(pipe)
    pipe("a", max_new_tokens=3)
    text = generate_latest(registry).decode()
    families = list(parsed(text))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    assert all(family.name.startswith("glmflash_") and family.documentation for family in families)
    assert text.count("# TYPE") == len(names) == len(READ) + len(HISTOGRAMS) + len(TOKENS) + 3
    assert "_created" not in text
    assert len(list(strictly(openmetrics(registry).decode()))) == len(names)


def test_names_follow_the_conventions() -> None:
    for metric in (UP, REFUSED, INTER_TOKEN, *READ, *HISTOGRAMS.values(), *TOKENS.values()):
        assert metric.name.endswith("_total") is (metric.kind == "counter")
        assert (metric.kind == "histogram") is bool(metric.buckets)
        assert list(metric.buckets) == sorted(set(metric.buckets))
    assert all(metric.name.endswith("_seconds") for metric in HISTOGRAMS.values())


def test_pipelines_are_told_apart(registry) -> None:
    metrics = PrometheusMetrics(registry)
    with (
        Pipeline.from_pretrained("tiny", progress=False) as one,
        Pipeline.from_pretrained("tiny", progress=False) as other,
    ):
        metrics.add(one, model_name="one").add(other, model_name='the "other"\n')
        with pytest.raises(ParameterError, match="another open pipeline"):
            metrics.add(other, model_name="one")
        one("a", max_new_tokens=2, **HOW)
        other("a", max_new_tokens=3, **HOW)
        other("b", max_new_tokens=4, **HOW)

        def generated(name: str) -> tuple[float, float]:
            labels = {"model_name": name}
            return tuple(
                registry.get_sample_value(f"glmflash_{metric}", labels)
                for metric in ("generation_tokens_total", "request_generation_tokens_sum")
            )

        assert (generated("one"), generated('the "other"\n')) == ((2, 2), (7, 7))
        assert list(parsed(generate_latest(registry).decode()))  # whatever the name is


def test_a_pipeline_that_is_closed_or_gone_is_down_and_its_name_is_free(registry) -> None:
    metrics = PrometheusMetrics(registry)
    pipe = Pipeline.from_pretrained("tiny", progress=False)
    metrics.add(pipe)
    pipe("a", max_new_tokens=2, **HOW)
    pipe.close()
    labels = {"model_name": "glmflash"}
    assert registry.get_sample_value("glmflash_up", labels) == 0
    assert registry.get_sample_value("glmflash_kv_blocks", labels | {"state": "free"}) is None
    assert registry.get_sample_value("glmflash_request_generation_tokens_count", labels) == 1
    second = Pipeline.from_pretrained("tiny", progress=False)
    metrics.add(second)
    second("a", max_new_tokens=2, **HOW)
    assert registry.get_sample_value("glmflash_up", labels) == 1
    assert registry.get_sample_value("glmflash_request_generation_tokens_count", labels) == 2
    engine = weakref.ref(second.engine)
    del second
    gc.collect()
    assert engine() is None  # a collector keeps nothing alive
    assert registry.get_sample_value("glmflash_up", labels) == 0


def test_one_collector_is_for_all(registry) -> None:
    PrometheusMetrics(registry)
    with pytest.raises(ValueError, match="Duplicated"):
        PrometheusMetrics(registry)


def test_without_a_pipeline_there_are_only_empty_families(registry) -> None:
    PrometheusMetrics(registry)
    assert "glmflash_up{" not in generate_latest(registry).decode()


def test_what_it_raises_costs_nobody_an_answer(pipe, registry, monkeypatch, caplog) -> None:
    PrometheusMetrics(registry).add(pipe)

    def fail(*_):
        raise RuntimeError("broken")

    monkeypatch.setattr(prometheus_client.Histogram, "observe", fail)
    (observed,) = pipe.engine._delivery.observers.functions
    observed._between = fail
    with caplog.at_level(logging.ERROR):
        assert pipe("a", max_new_tokens=3, **HOW).usage.completion == 3
    assert "observer _Observed failed at TokenGenerated" in caplog.text
    assert not observed._last


def test_without_the_library_it_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client.core", None)
    with pytest.raises(ParameterError, match=r"glmflash\[prometheus\]"):
        PrometheusMetrics()
