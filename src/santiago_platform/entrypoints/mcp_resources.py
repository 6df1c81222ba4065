"""The resources and prompts over MCP: lists, reads, and news of what changed, in both eras of the protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, cast

from mcp import MCPError
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourceUpdated
from mcp.shared.uri_template import UriTemplate
from mcp_types import (
    INVALID_PARAMS,
    EmptyResult,
    GetPromptRequestParams,
    GetPromptResult,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    PaginatedRequestParams,
    Prompt,
    PromptMessage,
    ReadResourceRequestParams,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    SubscribeRequestParams,
    SubscriptionFilter,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    TextContent,
    TextResourceContents,
    UnsubscribeRequestParams,
)

from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Principal
from ..ports import Ports
from ..tools import resource
from ..tools.prompts import PROMPTS
from ..tools.resources import RESOURCES
from ..tools.schema import echo
from ..tools.tool import render
from .invocation import refusal
from .resource_updates import ResourceUpdates

Context = ServerRequestContext[Any, Any]
PrincipalOf = Callable[[Context], Principal]

RESOURCE_BYTES = 256 * 1024  # what is larger is in a file, or has pages
SERVER_ERROR = -32000
_TEMPLATES = {uri: UriTemplate.parse(uri) for uri, found in RESOURCES.items() if found.is_template}


def find_resource(uri: str) -> tuple[resource.Resource, Mapping[str, str]]:
    """The resource that `uri` names, with the template's variables. Raises PlatformError(NOT_FOUND)."""
    if uri in RESOURCES and uri not in _TEMPLATES:
        return RESOURCES[uri], {}
    for known, template in _TEMPLATES.items():
        given = template.match(uri)
        if given is not None:
            return RESOURCES[known], cast("Mapping[str, str]", given)
    raise PlatformError(ErrorCode.NOT_FOUND, f"there is no resource {echo(uri)}", f"there are: {', '.join(RESOURCES)}")


async def read_resource(ports: Ports, principal: Principal, uri: str) -> tuple[str, str]:
    """(text, MIME type). Raises PlatformError alone, as tools do."""
    found, given = find_resource(uri)
    try:
        answer = await found.read(ports, principal, given)
        text = answer if isinstance(answer, str) else render(answer).decode()
    except Exception as exc:
        raise refusal(exc, f"resource {found.name}") from exc
    if len(text) > RESOURCE_BYTES:
        raise PlatformError(
            ErrorCode.UNSUPPORTED,
            f"{echo(uri)} has more than {RESOURCE_BYTES} bytes",
            "the workspace has its file",
        )
    return text, found.mime_type


def add_resources(server: Server[Any], ports: Ports, updates: ResourceUpdates, principal_of: PrincipalOf) -> None:
    """Lets the server serve all resources and prompts, and tell of changes."""

    async def on_list(_: Context, __: PaginatedRequestParams | None) -> ListResourcesResult:
        return ListResourcesResult(
            resources=[
                Resource(name=r.name, title=r.title, uri=r.uri, description=r.description, mime_type=r.mime_type)
                for r in RESOURCES.values()
                if not r.is_template
            ]
        )

    async def on_list_templates(_: Context, __: PaginatedRequestParams | None) -> ListResourceTemplatesResult:
        return ListResourceTemplatesResult(
            resource_templates=[
                ResourceTemplate(
                    name=r.name, title=r.title, uri_template=r.uri, description=r.description, mime_type=r.mime_type
                )
                for r in RESOURCES.values()
                if r.is_template
            ]
        )

    async def on_read(ctx: Context, params: ReadResourceRequestParams) -> ReadResourceResult:
        try:
            text, mime_type = await read_resource(ports, principal_of(ctx), params.uri)
        except PlatformError as exc:
            raise protocol_error(exc) from exc
        return ReadResourceResult(contents=[TextResourceContents(uri=params.uri, mime_type=mime_type, text=text)])

    async def on_subscribe(ctx: Context, params: SubscribeRequestParams) -> EmptyResult:
        session, uri = ctx.session, params.uri

        async def tell(_: str) -> None:
            await session.send_resource_updated(uri)

        subscribed = _subscribed(ctx)
        if uri not in subscribed:
            try:
                seen = await updates.look(principal_of(ctx), uri)
                subscribed[uri] = updates.watch(principal_of(ctx), uri, seen, tell)
            except PlatformError as exc:
                raise protocol_error(exc) from exc
        return EmptyResult()

    async def on_unsubscribe(ctx: Context, params: UnsubscribeRequestParams) -> EmptyResult:
        unwatch = _subscribed(ctx).pop(params.uri, None)
        if unwatch is not None:
            unwatch()
        return EmptyResult()

    async def on_listen(ctx: Context, params: SubscriptionsListenRequestParams) -> SubscriptionsListenResult:
        """The stream of one listener, who is told of what it may read and of nothing else."""
        principal, bus = principal_of(ctx), InMemorySubscriptionBus()

        async def tell(uri: str) -> None:
            await bus.publish(ResourceUpdated(uri))

        readable: dict[str, str] = {}
        for uri in dict.fromkeys(params.notifications.resource_subscriptions or ()):
            try:
                readable[uri] = await updates.look(principal, uri)
            except PlatformError:
                continue  # the acknowledgement says which are listened to
        with ExitStack() as stack:
            try:
                # From here to the handler's subscription nothing else runs, so no change is missed.
                for uri, seen in readable.items():
                    stack.callback(updates.watch(principal, uri, seen, tell))
            except PlatformError as exc:
                raise protocol_error(exc) from exc
            honoured = SubscriptionFilter(resource_subscriptions=list(readable))
            return await ListenHandler(bus)(ctx, params.model_copy(update={"notifications": honoured}))

    async def on_list_prompts(_: Context, __: PaginatedRequestParams | None) -> ListPromptsResult:
        return ListPromptsResult(
            prompts=[Prompt(name=p.name, title=p.title, description=p.description) for p in PROMPTS.values()]
        )

    async def on_get_prompt(_: Context, params: GetPromptRequestParams) -> GetPromptResult:
        prompt = PROMPTS.get(params.name)
        if prompt is None:
            raise MCPError(INVALID_PARAMS, f"there is no prompt {echo(params.name)}; there are: {', '.join(PROMPTS)}")
        words = PromptMessage(role="user", content=TextContent(type="text", text=prompt.text))
        return GetPromptResult(description=prompt.description, messages=[words])

    server.add_request_handler("resources/list", PaginatedRequestParams, on_list)
    server.add_request_handler("resources/templates/list", PaginatedRequestParams, on_list_templates)
    server.add_request_handler("resources/read", ReadResourceRequestParams, on_read)
    server.add_request_handler("resources/subscribe", SubscribeRequestParams, on_subscribe)
    server.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, on_unsubscribe)
    server.add_request_handler("subscriptions/listen", SubscriptionsListenRequestParams, on_listen)
    server.add_request_handler("prompts/list", PaginatedRequestParams, on_list_prompts)
    server.add_request_handler("prompts/get", GetPromptRequestParams, on_get_prompt)


def _subscribed(ctx: Context) -> dict[str, Callable[[], None]]:
    """What the connection has subscribed to, of the handshake's era. It ends with the connection."""
    connection = ctx.session._connection
    subscribed: dict[str, Callable[[], None]] | None = connection.state.get("subscribed")
    if subscribed is None:
        subscribed = connection.state["subscribed"] = {}

        def end() -> None:
            for unwatch in subscribed.values():
                unwatch()

        connection.exit_stack.callback(end)
    return subscribed


def protocol_error(exc: PlatformError) -> MCPError:
    """A refusal as the protocol's own error: reads have no other."""
    known = exc.code in (ErrorCode.NOT_FOUND, ErrorCode.INVALID_ARGUMENT)
    words = f"{exc.message}; {exc.hint}" if exc.hint else exc.message
    return MCPError(INVALID_PARAMS if known else SERVER_ERROR, words, error_object(exc))


def error_object(exc: PlatformError) -> dict[str, Any]:
    """What programs get of an error, without what is for the log alone."""
    error: dict[str, Any] = {"code": exc.code, "message": exc.message, "hint": exc.hint}
    return error if exc.retry_after is None else {**error, "retry_after": exc.retry_after}
