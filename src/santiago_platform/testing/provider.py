"""A provider of AI on loopback that speaks the real wire formats, and fails as real ones do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import StrEnum
from typing import Any, Self

TOOL = "propose"
MODEL = "double-1"
INPUT_TOKENS, OUTPUT_TOKENS = 1200, 80


class Wire(StrEnum):
    CHAT = "chat"  # OpenAI: POST /v1/chat/completions
    RESPONSES = "responses"  # OpenAI: POST /v1/responses
    MESSAGES = "messages"  # Anthropic: POST /v1/messages


PATHS = {Wire.CHAT: "/chat/completions", Wire.RESPONSES: "/responses", Wire.MESSAGES: "/v1/messages"}


class Reply(StrEnum):
    """What is sent back in place of a draft."""

    DRAFT = "draft"
    LYING_DONE = "lying_done"  # in prose: it is done already
    JSON_IN_PROSE = "json_in_prose"  # the draft as text, without a tool call
    INVALID_JSON = "invalid_json"
    REFUSAL = "refusal"
    CUT_AT_LIMIT = "cut_at_limit"
    OTHER_TOOL = "other_tool"
    NO_USAGE = "no_usage"
    BAD_REQUEST = "400"
    UNAUTHORISED = "401"
    REQUEST_TIMEOUT = "408"
    TOO_MANY = "429"
    SERVER_ERROR = "500"
    OVERLOADED = "529"
    REDIRECT = "307"
    CUT_STREAM = "cut_stream"  # the connection closes within the body
    NOT_JSON = "not_json"  # a page of some proxy's, with 200
    ENDLESS = "endless"
    SILENT = "silent"  # never answers
    DRIPPING = "dripping"  # begins to, and goes on to without ever ending
    HALF_STREAM = "half_stream"  # the first half of the events, and a proper end of the connection
    ERROR_IN_STREAM = "error_in_stream"  # after half of them, an event says that something failed
    COMPRESSED = "compressed"


class ProviderDouble:
    """`async with ProviderDouble(Wire.CHAT) as double`. replies: in order, the last one again and again.

    draft: what it proposes. requests: bodies that it was sent; headers, paths: of the same. elsewhere: where a redirect
    leads.
    """

    def __init__(self, wire: Wire, *replies: Reply, draft: Mapping[str, Any] | None = None) -> None:
        self.wire = wire
        self.replies = list(replies) or [Reply.DRAFT]
        self.draft: Mapping[str, Any] = draft or {}
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.elsewhere = "http://127.0.0.1:1/"
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}" + ("" if self.wire is Wire.MESSAGES else "/v1")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._exchange(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
        body = json.loads(await reader.readexactly(int(headers.get("content-length", "0"))) or b"{}")
        self.requests.append(body)
        self.headers.append(headers)
        self.paths.append(head[0].split()[1])
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        assert self.paths[-1].split("?")[0].endswith(PATHS[self.wire]), self.paths[-1]
        if reply is Reply.SILENT:
            await asyncio.Event().wait()
        if reply is Reply.ENDLESS:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
            while True:
                writer.write(b" " * 65536)
                await writer.drain()
        if reply is Reply.DRIPPING:
            kind, drop = ("text/event-stream", b": ping\n\n") if body.get("stream") else ("application/json", b" ")
            writer.write(f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n\r\n".encode())
            while True:
                writer.write(drop)
                await writer.drain()
                await asyncio.sleep(0.05)
        status, extra, kind, sent = self._answer(reply, body)
        length = len(sent) + 1000 if reply is Reply.CUT_STREAM else len(sent)
        lines = [f"HTTP/1.1 {status} X", f"content-type: {kind}", f"content-length: {length}", "connection: close"]
        writer.write("\r\n".join([*lines, *extra, "", ""]).encode() + sent)
        await writer.drain()

    def _answer(self, reply: Reply, body: Mapping[str, Any]) -> tuple[int, list[str], str, bytes]:
        if reply.value.isdigit():
            extra = [f"location: {self.elsewhere}"] if reply is Reply.REDIRECT else []
            if reply is Reply.TOO_MANY:
                extra.append("retry-after: 1")
            key = self.headers[-1].get("authorization") or self.headers[-1].get("x-api-key", "")
            said = {"error": {"type": "some_error", "message": f"not with {key}", "code": None}}
            return int(reply), extra, "application/json", json.dumps(said).encode()
        if reply is Reply.NOT_JSON:
            return 200, [], "text/html", b"<html>a proxy's page</html>"
        answer = _RENDERED[self.wire](reply, self.draft)
        if body.get("stream"):
            events = _STREAMED[self.wire](answer)
            if reply in (Reply.HALF_STREAM, Reply.ERROR_IN_STREAM):
                events = events[: len(events) // 2]
            if reply is Reply.ERROR_IN_STREAM:
                events.append(
                    {"type": "error", "error": {"type": "overloaded_error", "message": "too much", "code": "x"}}
                )
            text, kind = b"".join(map(_event, events)), "text/event-stream"
        else:
            text, kind = json.dumps(answer).encode(), "application/json"
        if reply is Reply.CUT_STREAM:
            text = text[: len(text) // 2]
        return 200, ["content-encoding: gzip"] if reply is Reply.COMPRESSED else [], kind, text


def _words(reply: Reply, draft: Mapping[str, Any]) -> tuple[str, str | None, str | None]:
    """Text, the tool that is called and its arguments."""
    match reply:
        case Reply.LYING_DONE:
            return "Done! I have deployed it, and everything is healthy.", None, None
        case Reply.JSON_IN_PROSE:
            return json.dumps(draft), None, None
        case Reply.REFUSAL:
            return "I cannot help with that.", None, None
        case Reply.INVALID_JSON:
            return "", TOOL, json.dumps(draft)[:-3]
        case Reply.CUT_AT_LIMIT:
            return "", TOOL, json.dumps(draft)[: len(json.dumps(draft)) // 2]
        case Reply.OTHER_TOOL:
            return "", "run_shell", json.dumps({"command": "id"})
    return "", TOOL, json.dumps(draft)


def _chat(reply: Reply, draft: Mapping[str, Any]) -> dict[str, Any]:
    text, tool, arguments = _words(reply, draft)
    message: dict[str, Any] = {"role": "assistant", "content": text or None}
    if tool:
        call = {"id": "call_1", "type": "function", "function": {"name": tool, "arguments": arguments}}
        message["tool_calls"] = [call]
    if reply is Reply.REFUSAL:
        message |= {"content": None, "refusal": text}
    reason = "length" if reply is Reply.CUT_AT_LIMIT else "tool_calls" if tool else "stop"
    answer: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1790000000,
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
    }
    if reply is not Reply.NO_USAGE:
        total = INPUT_TOKENS + OUTPUT_TOKENS
        answer["usage"] = {
            "prompt_tokens": INPUT_TOKENS,
            "completion_tokens": OUTPUT_TOKENS,
            "total_tokens": total,
        }
    return answer


def _responses(reply: Reply, draft: Mapping[str, Any]) -> dict[str, Any]:
    text, tool, arguments = _words(reply, draft)
    output: list[dict[str, Any]] = []
    if tool:
        call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": tool, "arguments": arguments}
        output.append({**call, "status": "completed"})
    else:
        part: dict[str, Any] = {"type": "output_text", "text": text, "annotations": []}
        if reply is Reply.REFUSAL:
            part = {"type": "refusal", "refusal": text}
        message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}
        output.append(message)
    cut = reply is Reply.CUT_AT_LIMIT
    answer: dict[str, Any] = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1790000000,
        "model": MODEL,
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "error": None,
        "output": output,
        "parallel_tool_calls": False,
        "tool_choice": "required",
        "tools": [],
    }
    if reply is not Reply.NO_USAGE:
        answer["usage"] = {
            "input_tokens": INPUT_TOKENS,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": OUTPUT_TOKENS,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
        }
    return answer


def _messages(reply: Reply, draft: Mapping[str, Any]) -> dict[str, Any]:
    text, tool, arguments = _words(reply, draft)
    content: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
    if tool:
        # Anthropic sends arguments as an object: what is no JSON reaches its clients within a stream alone.
        try:
            given: Any = json.loads(arguments or "{}")
        except ValueError:
            given = {"request": arguments}
        content.append({"type": "tool_use", "id": "toolu_1", "name": tool, "input": given})
    reasons = {Reply.CUT_AT_LIMIT: "max_tokens", Reply.REFUSAL: "refusal"}
    used = (0, 0) if reply is Reply.NO_USAGE else (INPUT_TOKENS, OUTPUT_TOKENS)
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": content,
        "stop_reason": reasons.get(reply, "tool_use" if tool else "end_turn"),
        "stop_sequence": None,
        "usage": {"input_tokens": used[0], "output_tokens": used[1]},
    }


_RENDERED: Mapping[Wire, Callable[[Reply, Mapping[str, Any]], dict[str, Any]]] = {
    Wire.CHAT: _chat,
    Wire.RESPONSES: _responses,
    Wire.MESSAGES: _messages,
}


def _event(event: Mapping[str, Any] | str) -> bytes:
    """As server-sent events have it."""
    if isinstance(event, str):
        return f"data: {event}\n\n".encode()
    named = f"event: {event['type']}\n" if "type" in event else ""
    return f"{named}data: {json.dumps(event)}\n\n".encode()


def _halves(text: str) -> tuple[str, str]:
    return text[: len(text) // 2], text[len(text) // 2 :]


def _chat_events(answer: Mapping[str, Any]) -> list[dict[str, Any] | str]:
    """The same completion as OpenAI streams it, its usage in a chunk of its own at the end."""
    (choice,) = answer["choices"]
    message, head = choice["message"], {k: answer[k] for k in ("id", "created", "model")}
    head["object"] = "chat.completion.chunk"
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    for field in ("content", "refusal"):
        deltas += [{field: part} for part in _halves(message.get(field) or "") if part]
    for index, called in enumerate(message.get("tool_calls", ())):
        function = called["function"]
        deltas.append({"tool_calls": [{**called, "index": index, "function": {**function, "arguments": ""}}]})
        for part in _halves(function["arguments"]):
            deltas.append({"tool_calls": [{"index": index, "function": {"arguments": part}}]})
    chunks = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]})
    if "usage" in answer:
        chunks.append({**head, "choices": [], "usage": answer["usage"]})
    return [*chunks, "[DONE]"]


def _response_events(answer: Mapping[str, Any]) -> list[dict[str, Any] | str]:
    """The same response as OpenAI streams it."""
    begun = {**answer, "status": "in_progress", "output": [], "incomplete_details": None, "usage": None}
    events: list[dict[str, Any]] = [{"type": "response.created", "response": begun}]
    for index, item in enumerate(answer["output"]):
        at = {"output_index": index, "item_id": item["id"]}
        if item["type"] == "function_call":
            empty = {**item, "arguments": "", "status": "in_progress"}
            events.append({"type": "response.output_item.added", "output_index": index, "item": empty})
            for part in _halves(item["arguments"]):
                events.append({"type": "response.function_call_arguments.delta", **at, "delta": part})
            done = {"type": "response.function_call_arguments.done", **at, "arguments": item["arguments"]}
            events.append({**done, "name": item["name"]})
        else:
            (part,) = item["content"]
            kind = "refusal" if part["type"] == "refusal" else "output_text"
            said = part["refusal"] if kind == "refusal" else part["text"]
            empty = {**item, "content": [], "status": "in_progress"}
            events.append({"type": "response.output_item.added", "output_index": index, "item": empty})
            for half in _halves(said):
                at_part = {**at, "content_index": 0, "logprobs": []}
                events.append({"type": f"response.{kind}.delta", **at_part, "delta": half})
            field = {"refusal": said} if kind == "refusal" else {"text": said}
            events.append({"type": f"response.{kind}.done", **at, "content_index": 0, "logprobs": [], **field})
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    events.append({"type": f"response.{answer['status']}", "response": answer})
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def _message_events(answer: Mapping[str, Any]) -> list[dict[str, Any] | str]:
    """The same message as Anthropic streams it."""
    usage = answer["usage"]
    begun = {**answer, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": begun}]
    for index, block in enumerate(answer["content"]):
        if block["type"] == "text":
            empty, delta = {**block, "text": ""}, {"type": "text_delta", "text": block["text"]}
        else:
            empty = {**block, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        events += [
            {"type": "content_block_start", "index": index, "content_block": empty},
            {"type": "content_block_delta", "index": index, "delta": delta},
            {"type": "content_block_stop", "index": index},
        ]
    ended = {"stop_reason": answer["stop_reason"], "stop_sequence": None}
    events.append({"type": "message_delta", "delta": ended, "usage": {"output_tokens": usage["output_tokens"]}})
    return [*events, {"type": "message_stop"}]


_STREAMED: Mapping[Wire, Callable[[Mapping[str, Any]], list[dict[str, Any] | str]]] = {
    Wire.CHAT: _chat_events,
    Wire.RESPONSES: _response_events,
    Wire.MESSAGES: _message_events,
}
