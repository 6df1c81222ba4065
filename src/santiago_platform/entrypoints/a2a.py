"""The door for agents that speak A2A: a card that says who this is, and messages that become mail to its role.

The SDK is imported with the first request that needs it: most workspaces never get one.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NoReturn

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message as Event

from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Principal, Role
from ..operations.messages import MailFields, send_mail
from ..ports import Ports
from ..tools.schema import parse
from .invocation import refusal
from .mcp_resources import error_object

if TYPE_CHECKING:
    from a2a.server.routes.jsonrpc_dispatcher import JsonRpcDispatcher

CARD_PATH = "/.well-known/agent-card.json"
RPC_PATH = "/a2a"
PROTOCOL = "1.0"
KEY_CHARACTERS = 100
MAIL_METADATA = ("severity", "operation", "incident")  # of a message's, which are the mail's own fields


def card(base_url: str) -> Response:
    """The agent card, for everybody. base_url: by which the caller reached this server."""
    from a2a.server.request_handlers.response_helpers import agent_card_to_dict
    from a2a.types import a2a_pb2 as a2a

    bearer = a2a.SecurityScheme(http_auth_security_scheme=a2a.HTTPAuthSecurityScheme(scheme="bearer"))
    shown = a2a.AgentCard(
        name="Santiago Platform Engineer",
        description="Deploys services, watches them and proves what it did. Messages become mail to its role.",
        version=version("santiago-platform"),
        supported_interfaces=[
            a2a.AgentInterface(
                url=f"{base_url.rstrip('/')}{RPC_PATH}", protocol_binding="JSONRPC", protocol_version=PROTOCOL
            )
        ],
        capabilities=a2a.AgentCapabilities(streaming=False, push_notifications=False),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        security_schemes={"bearer": bearer},
        security_requirements=[a2a.SecurityRequirement(schemes={"bearer": a2a.StringList()})],
        skills=[
            a2a.AgentSkill(
                id="mail",
                name="Mail to the platform engineer",
                description="Text for the role platform; metadata severity, operation and incident link it.",
                tags=["mail", "platform"],
                examples=["web answers slowly since the last deployment"],
            )
        ],
    )
    return JSONResponse(agent_card_to_dict(shown))


async def answer(ports: Ports, principal: Principal, request: Request, body: bytes) -> Response:
    """Answers one JSON-RPC request of A2A. body: what came with it; its size has been looked at."""

    async def receive() -> Event:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {**request.scope, "santiago": (ports, principal)}
    return await _dispatcher().handle_requests(Request(scope, receive))


@cache
def _dispatcher() -> JsonRpcDispatcher:
    from a2a.server.context import ServerCallContext
    from a2a.server.request_handlers.request_handler import RequestHandler
    from a2a.server.routes.common import ServerCallContextBuilder
    from a2a.server.routes.jsonrpc_dispatcher import JsonRpcDispatcher
    from a2a.types import a2a_pb2 as a2a
    from a2a.utils.errors import ContentTypeNotSupportedError, InternalError, InvalidParamsError, InvalidRequestError
    from a2a.utils.errors import UnsupportedOperationError as Unsupported

    class Builder(ServerCallContextBuilder):
        def build(self, request: Request) -> ServerCallContext:
            return ServerCallContext(state={"headers": dict(request.headers), "santiago": request.scope["santiago"]})

    async def refuse_method(*_: Any) -> NoReturn:
        raise Unsupported

    unsupported: Any = refuse_method

    class Mailer(RequestHandler):
        """There are no tasks: a message is answered at once, by one that names the mail."""

        async def on_message_send(self, params: Any, context: ServerCallContext) -> Any:
            ports, principal = context.state["santiago"]
            message = params.message
            if not message.parts or any(not part.HasField("text") for part in message.parts):
                raise ContentTypeNotSupportedError(message="send parts of text")
            given, context_id = message.metadata, message.context_id
            fields = {
                **{name: given[name] for name in MAIL_METADATA if name in given},
                "text": "\n".join(part.text for part in message.parts),
                "key": message.message_id[:KEY_CHARACTERS],  # sent again after a lost answer, it is one mail
                "thread": context_id if context_id.startswith("ml-") else None,
            }
            try:
                sent = await send_mail(ports, principal, parse(MailFields, fields), Role.PLATFORM)
            except Exception as exc:  # noqa: BLE001 - what is not a PlatformError is logged with its trace there
                _refuse(refusal(exc, "A2A message"))
            return a2a.Message(
                message_id=f"{sent.id}-answer",
                context_id=sent.thread,
                role=a2a.Role.ROLE_AGENT,
                parts=[a2a.Part(text=f"mail {sent.id} lies in the mailbox of role {Role.PLATFORM}")],
                metadata={"mail": sent.id, "repeat": sent.repeat},
            )

        async def on_message_send_stream(self, params: Any, context: ServerCallContext) -> Any:
            yield await self.on_message_send(params, context)

        async def on_subscribe_to_task(self, params: Any, context: ServerCallContext) -> Any:
            raise Unsupported
            yield

        on_get_task = on_list_tasks = on_cancel_task = unsupported
        on_create_task_push_notification_config = on_get_task_push_notification_config = unsupported
        on_list_task_push_notification_configs = on_delete_task_push_notification_config = unsupported
        on_get_extended_agent_card = unsupported

    def _refuse(exc: PlatformError) -> NoReturn:
        words, data = f"{exc.message}; {exc.hint}" if exc.hint else exc.message, error_object(exc)
        if exc.code is ErrorCode.INTERNAL:
            raise InternalError(message=words, data=data) from exc
        known = exc.code in (ErrorCode.INVALID_ARGUMENT, ErrorCode.NOT_FOUND)
        raise (InvalidParamsError if known else InvalidRequestError)(message=words, data=data) from exc

    return JsonRpcDispatcher(Mailer(), Builder())
