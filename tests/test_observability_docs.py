"""The list of metrics and the dashboard: all that is exported, and nothing that is not."""

import json
import re
from pathlib import Path

import pytest

from glmflash.observability.metrics import HISTOGRAMS, INTER_TOKEN, READ, REFUSED, TOKENS, UP, Metric

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "reference" / "metrics.md").read_text()
DASHBOARD = json.loads((DOCS / "grafana-dashboard.json").read_text())
METRICS = {one.name: one for one in (UP, REFUSED, INTER_TOKEN, *READ, *HISTOGRAMS.values(), *TOKENS.values())}
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| `glmflash_")
]


def samples(metric: Metric) -> set[str]:
    """Names that can be asked for."""
    if metric.kind == "histogram":
        return {f"{metric.name}_{part}" for part in ("bucket", "sum", "count")}
    return {metric.name}


SAMPLES = {name: metric for metric in METRICS.values() for name in samples(metric)}


def problems(query: str) -> list[str]:
    """What is wrong with a query: names that are not exported, labels that these do not have, brackets."""
    names = re.findall(r"glmflash_\w+", query)
    wrong = [name for name in names if name not in SAMPLES]
    found = [SAMPLES[name] for name in names if name in SAMPLES]
    labels = {"model_name", "le"} | {metric.label for metric in found}
    used = re.findall(r"by \(([^)]*)\)", query) + re.findall(r"(\w+)=~?\"", query)
    wrong += [label for each in used for label in re.split(r",\s*", each) if label not in labels]
    for pair in ("()", "{}", "[]"):
        wrong += [pair] * (query.count(pair[0]) != query.count(pair[1]))
    counted = re.findall(r"(rate|increase)\((glmflash_\w+)", query)
    wrong += [name for _, name in counted if name in SAMPLES and SAMPLES[name].kind == "gauge"]
    return wrong if names else ["no metric"]


def test_the_page_lists_every_metric_once() -> None:
    assert sorted(row[0].strip("`") for row in ROWS) == sorted(METRICS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_says_what_is_exported(row: list[str]) -> None:
    name, kind, unit, labels, meaning, query = row
    metric = METRICS[name.strip("`")]
    assert kind == metric.kind
    assert re.findall(r"`(\w+)`", labels) == ["model_name", metric.label][: 1 + bool(metric.label)]
    assert meaning == metric.text
    assert ("seconds" in unit) is metric.name.endswith("_seconds")
    assert ("bytes" in unit) is metric.name.endswith("_bytes")
    assert not problems(query.strip("`"))
    assert metric.name in query


def expressions() -> list[str]:
    targets = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return targets + [one["definition"] for one in DASHBOARD["templating"]["list"] if "definition" in one]


@pytest.mark.parametrize("expression", expressions())
def test_the_dashboard_asks_for_what_there_is(expression: str) -> None:
    assert not problems(expression)


def test_the_dashboard_can_be_imported() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(places)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)
    assert {panel["datasource"]["uid"] for panel in panels} == {"${datasource}"}
    assert {one["name"] for one in DASHBOARD["templating"]["list"]} == {"datasource", "model_name"}


def test_the_dashboard_shows_nearly_all() -> None:
    shown = {
        SAMPLES[name].name for name in re.findall(r"glmflash_\w+", " ".join(expressions())) if name in SAMPLES
    }
    assert set(METRICS) - shown == {
        "glmflash_requests_submitted_total", "glmflash_saved_prefill_tokens_total",
        "glmflash_vision_cache_entries", "glmflash_request_time_per_output_token_seconds",
        "glmflash_request_prompt_tokens", "glmflash_request_generation_tokens",
    }  # fmt: skip


@pytest.mark.parametrize("query", [
    "rate(glmflash_nothing_total[5m])", "rate(glmflash_num_requests_running[5m])", "glmflash_kv_blocks{",
    "sum by (code) (glmflash_kv_blocks)", "up", 'glmflash_up{part="kv"}', "glmflash_request_prompt_tokens",
])  # fmt: skip
def test_a_wrong_query_is_noticed(query: str) -> None:
    assert problems(query)


@pytest.mark.extras
def test_what_is_listed_is_what_the_collector_exports() -> None:
    prometheus_client = pytest.importorskip("prometheus_client")
    from glmflash import AnswerCache, Pipeline
    from glmflash.observability import PrometheusMetrics

    registry = prometheus_client.CollectorRegistry()
    with Pipeline.from_pretrained("tiny", progress=False, answer_cache=AnswerCache()) as pipe:
        PrometheusMetrics(registry).add(pipe)
        pipe("a", max_new_tokens=3)
        for bad in ({"images": "absent.png"}, {"top_p": 3}):
            with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
                pipe("a", **bad)
        exported: dict[str, set[str]] = {}
        for family in registry.collect():
            for sample in family.samples:
                exported.setdefault(sample.name, set()).update(sample.labels)
    assert exported.keys() == SAMPLES.keys()
    for name, metric in SAMPLES.items():
        wanted = {"model_name", metric.label} - {""} | ({"le"} if name.endswith("_bucket") else set())
        assert exported[name] == wanted, name


@pytest.mark.extras
def test_what_spans_hold_is_listed() -> None:
    """Every attribute that the observer's source names is on the page, and the other way round."""
    from glmflash.observability import otel

    source = Path(otel.__file__).read_text()
    named = set(re.findall(r'"((?:gen_ai|glmflash|error)\.[a-z_.]+)"', source))
    metrics = {f"gen_ai.{name}" for name in re.findall(r'meter, "([a-z_.]+)"', source)}
    listed = set(re.findall(r"`((?:gen_ai|glmflash|error)\.[a-z_.]+)`", PAGE)) - {"glmflash."}
    assert named | metrics == listed
