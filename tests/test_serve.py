"""The server of examples/: OpenAI's own client talks to it, unchanged; and what it does to bad guests."""

import asyncio
import base64
import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

httpx = pytest.importorskip("httpx")
openai = pytest.importorskip("openai")
for name in ("fastapi", "uvicorn", "jwt", "prometheus_client"):
    pytest.importorskip(name)

from scripted import Scripted  # noqa: E402
from serving import SECRET, script, served, token  # noqa: E402

from glmflash import Pipeline  # noqa: E402

pytestmark = [pytest.mark.extras, pytest.mark.allow_hosts(["127.0.0.1"])]

ROOT = Path(__file__).parents[1]
HI = [{"role": "user", "content": "Hi"}]
TOOLS = [{"type": "function", "function": {"name": "rate", "parameters": {"type": "object", "properties": {
    "currency": {"type": "string"}, "days": {"type": "integer"}}}}}]  # fmt: skip
CALL = (
    "<think>Look it up.</think>\n<tool_call>rate\n<arg_key>currency</arg_key>\n<arg_value>EUR</arg_value>\n"
    "<arg_key>days</arg_key>\n<arg_value>7</arg_value>\n</tool_call>"
)


@pytest.fixture(scope="module")
def pipe():
    with Pipeline.from_pretrained("tiny", progress=False) as pipe:
        yield pipe


@pytest.fixture(scope="module")
def address(pipe):
    with served(pipe) as address:
        yield address


@pytest.fixture
def client(address):
    with openai.OpenAI(base_url=f"{address}/v1", api_key=token(), max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def receipts():
    """Sixteen receipts: (picture, data URL)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "examples" / "tiny")
        import draw

        made = [draw.receipt(Random(f"receipt {i}"), language="en")[0] for i in range(16)]
    return [(picture, as_url(picture)) for picture in made]


def as_url(picture) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def about(url, text="What is the total?"):
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]
    return [{"role": "user", "content": parts}]


def post(address, content, **headers):
    headers = {"authorization": f"Bearer {token()}"} | {k.replace("_", "-"): v for k, v in headers.items()}
    return httpx.post(f"{address}/v1/chat/completions", content=content, headers=headers, timeout=60)


# OpenAI's client


def test_it_answers(client, pipe, receipts):
    picture, url = receipts[0]
    answer = client.chat.completions.create(model="glmflash", messages=about(url), max_tokens=32)
    wanted = pipe("What is the total?", images=picture, max_new_tokens=32)
    assert answer.choices[0].message.content == wanted.text
    assert answer.usage.completion_tokens == wanted.usage.completion
    assert answer._request_id


def test_it_streams(client, pipe, receipts):
    picture, url = receipts[1]
    wanted = pipe("Transcribe the picture.", images=picture, max_new_tokens=64)
    chunks = list(client.chat.completions.create(
        model="glmflash", messages=about(url, "Transcribe the picture."), max_tokens=64, stream=True,
        stream_options={"include_usage": True},
    ))  # fmt: skip
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == wanted.text
    assert chunks[-1].usage.completion_tokens == wanted.usage.completion
    assert chunks[-2].choices[0].finish_reason == wanted.finish_reason
    assert len(chunks) > 5


def test_its_helper_for_streams(client, receipts):
    with client.chat.completions.stream(model="glmflash", messages=about(receipts[0][1]), max_tokens=32) as s:
        final = s.get_final_completion()
    plain = client.chat.completions.create(model="glmflash", messages=about(receipts[0][1]), max_tokens=32)
    assert final.choices[0].message.content == plain.choices[0].message.content


def test_asynchronously(address, pipe, receipts):
    async def ask():
        async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key=token()) as client:
            complete = client.chat.completions.create
            whole = await complete(model="glmflash", messages=about(receipts[2][1]), max_tokens=32)
            stream = await complete(
                model="glmflash", messages=about(receipts[2][1]), max_tokens=32, stream=True
            )
            return whole.choices[0].message.content, "".join(
                [chunk.choices[0].delta.content or "" async for chunk in stream]
            )

    wanted = pipe("What is the total?", images=receipts[2][0], max_new_tokens=32).text
    assert asyncio.run(ask()) == (wanted, wanted)


def test_tools_whole_and_streamed(pipe, receipts):
    """A script speaks, as the embedded model was not taught to call; what it says goes the usual way."""
    with (
        served(Scripted(pipe, CALL)) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key=token()) as client,
    ):
        asked = {
            "model": "glmflash", "messages": about(receipts[0][1]), "tools": TOOLS,
            "reasoning_effort": "high", "tool_choice": "required", "max_tokens": 200,
        }  # fmt: skip
        message = client.chat.completions.create(**asked).choices[0].message
        (call,) = message.tool_calls
        assert (call.function.name, json.loads(call.function.arguments)) == (
            "rate",
            {"currency": "EUR", "days": 7},
        )
        assert message.reasoning_content == "Look it up."
        with client.chat.completions.stream(**asked) as stream:
            final = stream.get_final_completion().choices[0]
        assert final.finish_reason == "tool_calls"
        assert final.message.tool_calls[0].function.arguments == call.function.arguments
        back = [*asked["messages"], message, {"role": "tool", "tool_call_id": call.id, "content": "1.08"}]
        assert client.chat.completions.create(**asked | {"messages": back}).choices


def test_a_call_that_is_asked_for_is_made(client, receipts):
    """No script: the model itself is held to the form of a call."""
    answer = client.chat.completions.create(
        model="glmflash", messages=about(receipts[0][1]), tools=TOOLS, max_tokens=300,
        tool_choice={"type": "function", "function": {"name": "rate"}},
    ).choices[0]  # fmt: skip
    if answer.finish_reason != "length":
        assert answer.message.tool_calls[0].function.name == "rate"
        assert isinstance(json.loads(answer.message.tool_calls[0].function.arguments), dict)


def test_json_by_schema(client, receipts):
    pytest.importorskip("llguidance")
    total = {"type": "string", "pattern": "^[0-9]{1,3}\\.[0-9]{2}$"}
    schema = {"type": "object", "properties": {"total": total},
              "required": ["total"], "additionalProperties": False}  # fmt: skip
    answer = client.chat.completions.create(
        model="glmflash", messages=about(receipts[0][1]), max_tokens=300,
        response_format={"type": "json_schema", "json_schema": {"name": "receipt", "schema": schema}},
    )  # fmt: skip
    value = json.loads(answer.choices[0].message.content)
    assert list(value) == ["total"]
    assert float(value["total"]) >= 0


def test_logprobs(client, receipts):
    answer = client.chat.completions.create(
        model="glmflash", messages=about(receipts[0][1]), max_tokens=4, logprobs=True, top_logprobs=2
    )
    entries = answer.choices[0].logprobs.content
    assert len(entries) == answer.usage.completion_tokens
    assert all(len(entry.top_logprobs) == 2 for entry in entries)


def test_models(client):
    assert [model.id for model in client.models.list()] == ["glmflash"]


@pytest.mark.parametrize(("fields", "kind", "code"), [
    ({"model": "gpt-x"}, "NotFoundError", "model_not_found"),
    ({"temperature": -1}, "BadRequestError", "parameter_error"),
    ({"n": 2}, "BadRequestError", "parameter_error"),
    ({"extra_body": {"cache_salt": "x"}}, "BadRequestError", "parameter_error"),
    ({"messages": [{"role": "king", "content": "Hi"}]}, "BadRequestError", "message_error"),
    ({"messages": about("file:///etc/passwd")}, "BadRequestError", "message_error"),
    ({"messages": about("http://127.0.0.1/a.png")}, "BadRequestError", "fetch_error"),
    ({"messages": about("data:image/png;base64,AAAA")}, "BadRequestError", "image_error"),
    ({"messages": [{"role": "user", "content": "a " * 9000}]}, "BadRequestError", "context_length_exceeded"),
])  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_errors_are_those_that_the_client_knows(client, fields, kind, code, stream):
    with pytest.raises(getattr(openai, kind)) as error:
        client.chat.completions.create(
            **{"model": "glmflash", "messages": HI, "max_tokens": 3, "stream": stream} | fields
        )
    assert error.value.code == code


def test_an_error_amid_the_stream(pipe):
    told = Scripted(pipe, "One two three four five six seven.")
    force = told._force
    told._force = lambda ids, logits: force(ids, logits) * (float("nan") if len(ids) == 5 else 1)
    with served(told) as address, openai.OpenAI(base_url=f"{address}/v1", api_key=token()) as client:
        chunks = client.chat.completions.create(model="glmflash", messages=HI, stream=True)
        assert next(chunks).choices[0].delta.role == "assistant"
        with pytest.raises(openai.APIError) as error:
            list(chunks)
        assert error.value.code == "parameter_error"


@pytest.mark.parametrize("bearer", [
    "wrong",
    lambda: token(secret="another secret that is just as long as it"),
    lambda: token(hours=-1),
    lambda: token(""),
    "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIiwiZXhwIjo5OTk5OTk5OTk5fQ.",  # signed by nobody: algorithm none
])  # fmt: skip
def test_a_wrong_token(address, bearer):
    bearer = bearer() if callable(bearer) else bearer
    with openai.OpenAI(base_url=f"{address}/v1", api_key=bearer) as client:
        for use in (lambda: client.models.list(),
                    lambda: client.chat.completions.create(model="glmflash", messages=HI)):  # fmt: skip
            with pytest.raises(openai.AuthenticationError, match="token"):
                use()


def test_fifty_clients_at_once_get_the_answers_of_the_pipeline(address, pipe, receipts):
    questions = ("What is the total?", "Who is the vendor?", "Transcribe the picture.", "合计多少钱？")
    asked = [(receipts[i % 16], questions[i % 4]) for i in range(50)]
    wanted = [r.text for r in pipe.batch(
        [{"text": text, "images": picture} for (picture, _), text in asked], max_new_tokens=48, progress=False
    )]  # fmt: skip

    def ask(i):
        (_, url), text = asked[i]
        with openai.OpenAI(
            base_url=f"{address}/v1", api_key=token(f"client {i % 7}"), max_retries=0
        ) as client:
            complete = client.chat.completions.create
            if i % 2:
                chunks = complete(model="glmflash", messages=about(url, text), max_tokens=48, stream=True)
                return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            whole = complete(model="glmflash", messages=about(url, text), max_tokens=48)
            return whole.choices[0].message.content

    with ThreadPoolExecutor(50) as threads:
        assert list(threads.map(ask, range(50))) == wanted


# What a server has to withstand


def test_the_plain_body(address, pipe, receipts):
    picture, url = receipts[3]
    plain = {
        "image": url.partition(",")[2],
        "prompt": "What is the total?",
        "max_tokens": 32,
        "temperature": 0,
    }
    answer = post(address, json.dumps(plain)).json()
    wanted = pipe("What is the total?", images=picture, max_new_tokens=32).text
    assert answer["choices"][0]["message"]["content"] == wanted


@pytest.mark.parametrize(("content", "code"), [
    (b"", "invalid_json"),
    (b"{", "invalid_json"),
    (b"\xff", "invalid_json"),
    (b"[" * 100_000, "invalid_json"),
    (b"[]", "invalid_json"),
    (b"1" * 10_000, "invalid_json"),
    (b'{"messages": 1}', "message_error"),
    (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "message_error"),
    (b'{"messages": [{"role": "user", "content": "a"}], "temperature": NaN}', "parameter_error"),
])  # fmt: skip
def test_malformed_bodies(address, content, code):
    answer = post(address, content)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


def test_a_large_body_is_refused_by_its_header_and_by_its_bytes(pipe):
    with served(pipe, max_body=100_000) as address:
        port = int(address.rpartition(":")[2])
        said = f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token()}\r\n"
        with socket.create_connection(("127.0.0.1", port)) as line:  # nothing of the body is sent
            line.sendall(f"{said}content-length: 99999999999\r\n\r\n".encode())
            assert line.recv(1000).startswith(b"HTTP/1.1 413")
        sent = 0

        def endless():
            nonlocal sent
            while sent < 50_000_000:
                sent += 10_000
                yield b"x" * 10_000

        try:
            answer = post(address, endless())
        except httpx.TransportError:  # it had hung up while we still sent
            pass
        else:
            assert answer.status_code == 413
        assert sent < 50_000_000
        assert post(address, b"{").status_code == 400  # and goes on


def test_a_body_that_does_not_come(pipe):
    with (
        served(pipe, body_seconds=0.2) as address,
        socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as line,
    ):
        said = f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token()}\r\n"
        line.sendall(f"{said}content-length: 100\r\n\r\n{{".encode())
        assert line.recv(1000).startswith(b"HTTP/1.1 408")


def test_without_a_token_no_body_is_read(address):
    line = socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])))
    with line:
        line.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n")
        answer = line.recv(2000)
    assert answer.startswith(b"HTTP/1.1 401")
    assert b"www-authenticate: Bearer" in answer


def ended(pipe):
    """How many requests were cancelled, once none is under way."""
    for _ in range(500):
        stats = pipe.stats()
        if stats.answered + sum(stats.failed.values()) == stats.submitted:
            return stats.finished.get("cancelled", 0) + stats.failed.get("cancelled", 0)
        time.sleep(0.01)
    raise AssertionError("a request goes on")


@pytest.mark.parametrize("stream", [False, True])
def test_whoever_leaves_takes_the_request_along(pipe, stream):
    with served(Scripted(pipe, "and " * 400)) as address:
        before = ended(pipe)
        body = {"messages": HI, "max_tokens": 1000, "stream": stream}
        headers = {"authorization": f"Bearer {token()}"}
        if stream:
            with httpx.stream("POST", f"{address}/v1/chat/completions", json=body, headers=headers) as answer:
                next(answer.iter_lines())
        else:
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(f"{address}/v1/chat/completions", json=body, headers=headers, timeout=0.3)
        assert ended(pipe) == before + 1


def test_a_full_queue_says_when_to_come_back():
    body = json.dumps({"messages": HI, "max_tokens": 100})
    with (
        Pipeline.from_pretrained("tiny", progress=False, max_batch=1, max_waiting=1) as pipe,
        served(Scripted(pipe, "and " * 300)) as address,
        ThreadPoolExecutor(8) as threads,
    ):
        answers = list(threads.map(lambda _: post(address, body), range(8)))
    statuses = {answer.status_code for answer in answers}
    assert statuses == {200, 429}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["error"]["type"] == "rate_limit_error"


def test_a_deadline(pipe):
    with served(Scripted(pipe, "and " * 300), timeout=0.1) as address:
        answer = post(address, json.dumps({"messages": HI, "max_tokens": 1000}))
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_error")


def test_health_is_honest_about_a_closed_pipeline():
    pipe = Pipeline.from_pretrained("tiny", progress=False)
    with served(pipe) as address:
        assert httpx.get(f"{address}/healthz").json()["status"] == "ok"
        pipe.close()
        answer = httpx.get(f"{address}/healthz")
        assert (answer.status_code, answer.json()) == (503, {"status": "dead", "code": "closed_error"})
        assert post(address, json.dumps({"messages": HI})).status_code == 503
        assert 'glmflash_up{model_name="glmflash"} 0.0' in httpx.get(f"{address}/metrics").text


def test_health_is_honest_about_a_dead_engine(monkeypatch):
    def fail(*_, **__):
        raise KeyboardInterrupt("broken books")

    with Pipeline.from_pretrained("tiny", progress=False) as pipe, served(pipe) as address:
        monkeypatch.setattr(pipe.engine._runner.scheduler, "schedule", fail, raising=False)
        monkeypatch.setattr(pipe.engine._runner, "step", fail, raising=False)
        answer = post(address, json.dumps({"messages": HI}))
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_dead_error")
        assert httpx.get(f"{address}/healthz").status_code == 503


def test_the_log_tells_how_much_and_never_what(address, receipts, caplog):
    body = {"messages": about(receipts[0][1], "What is the total?"), "max_tokens": 16}
    with caplog.at_level(logging.INFO, "glmflash.serve"):
        answer = post(address, json.dumps(body))
        post(address, json.dumps(body | {"n": 2}))
        post(address, "{}", authorization="Bearer x")
    lines = [json.loads(record.message) for record in caplog.records if record.name == "glmflash.serve"]
    assert [(line["status"], line.get("subject"), line.get("error")) for line in lines] == [
        (200, "tester", None), (400, "tester", "parameter_error"), (401, None, "invalid_api_key")
    ]  # fmt: skip
    assert lines[0]["request"] == answer.headers["x-request-id"]
    assert lines[0]["prompt_tokens"] == answer.json()["usage"]["prompt_tokens"]
    said = answer.json()["choices"][0]["message"]["content"]
    assert not [word for word in ("What is", said, "base64") if word in caplog.text]


def test_metrics(address):
    httpx.get(f"{address}/nowhere/{'x' * 100}")
    text = httpx.get(f"{address}/metrics").text
    assert 'glmflash_up{model_name="glmflash"} 1.0' in text
    assert 'http_requests_total{route="other",status="404"}' in text
    assert 'http_request_duration_seconds_bucket{le="0.05",route="other"}' in text
    assert 'glmflash_generation_tokens_total{model_name="glmflash"}' in text
    assert 'glmflash_time_to_first_token_seconds_bucket{le="+Inf",model_name="glmflash"}' in text


def test_the_page_loads_nothing_from_elsewhere(address):
    answer = httpx.get(address)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http://" not in answer.text.replace("http://www.w3.org", "")
    assert "https://" not in answer.text


# As a program


def test_it_wants_a_secret_and_makes_tokens(capsys, monkeypatch):
    monkeypatch.delenv("GLMFLASH_SECRET", raising=False)
    main = script().main
    for arguments in ([], ["--secret", "short"]):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
        said = capsys.readouterr().err
        assert "GLMFLASH_SECRET" in said
        assert "32 bytes" in said
    monkeypatch.setenv("GLMFLASH_SECRET", SECRET)
    script().main(["--print-token", "me"])
    made = capsys.readouterr()
    assert made.err.strip() == f"http://127.0.0.1:8000/#{made.out.strip()}"


def test_sigterm_lets_answers_end():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "GLMFLASH_SECRET": SECRET}
    command = [sys.executable, ROOT / "examples" / "serve.py", "--port", str(port)]
    server = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(300):
            try:
                httpx.get(f"{address}/healthz")
                break
            except httpx.TransportError:
                time.sleep(0.1)
        got = []
        body = {"prompt": "Transcribe", "max_tokens": 300, "temperature": 2, "seed": 1, "stream": True}
        headers = {"authorization": f"Bearer {token()}"}
        url = f"{address}/v1/chat/completions"
        with httpx.stream("POST", url, json=body, headers=headers, timeout=60) as answer:
            lines = answer.iter_lines()
            got.append(next(lines))
            server.send_signal(signal.SIGTERM)
            got += [line for line in lines if line]
        assert got[-1] == "data: [DONE]"
        assert server.wait(30) == 0
    finally:
        server.kill()
        server.communicate()
