"""HTTP that is neither an upgrade nor @connections: the app's own routes, and a page that greets a browser.

Knows how chalice answers HTTP locally, and how its answers become responses.
"""

from __future__ import annotations

import base64
import html
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web
from chalice.local import LocalGateway, LocalGatewayException
from multidict import CIMultiDict

from localaws.functions import FunctionError, Threads

if TYPE_CHECKING:
    from chalice.app import Chalice
    from chalice.config import Config

_PAGE = Path(__file__).with_name("index.html")


class Pages:
    """Answers plain HTTP requests for one chalice app."""

    def __init__(self, app: Chalice, config: Config, threads: Threads) -> None:
        self._app = app
        self._gateway = LocalGateway(app, config)
        self._threads = threads
        self._greeted = {"/", f"/{config.api_gateway_stage}", f"/{config.api_gateway_stage}/"}
        self._page = (
            _PAGE.read_text(encoding="utf-8")
            .replace("{{app}}", html.escape(config.app_name))
            .replace("{{stage}}", html.escape(config.api_gateway_stage))
        )

    async def respond(self, request: web.Request) -> web.Response:
        """The app's answer if it has routes; the page at `/` if it has none there."""
        greets = request.path in self._greeted and request.method in {"GET", "HEAD"}
        if greets and request.path not in self._app.routes:
            return web.Response(text=self._page, content_type="text/html")
        if not self._app.routes:
            return web.json_response(
                {"message": f"Nothing is served at {request.method} {request.path}: this app has no HTTP routes."},
                status=HTTPStatus.NOT_FOUND,
            )
        headers = dict(request.headers.items())
        body = await request.read() or None
        try:
            answer: web.Response = await self._threads.run(
                lambda: self._answer(request.method, request.raw_path, headers, body)
            )
        except FunctionError:
            return web.json_response({"message": "Internal server error"}, status=HTTPStatus.BAD_GATEWAY)
        return answer

    def _answer(self, method: str, path: str, headers: dict[str, str], body: bytes | None) -> web.Response:
        try:
            answer = self._gateway.handle_request(method, path, headers, body)
        except LocalGatewayException as error:
            return _response(error.CODE, error.headers, error.body)
        content = answer["body"]
        if answer.get("isBase64Encoded"):
            content = base64.b64decode(content)
        return _response(answer["statusCode"], {**answer["headers"], **answer["multiValueHeaders"]}, content)


def _response(status: int, headers: dict[str, Any], body: str | bytes | None) -> web.Response:
    sent: CIMultiDict[str] = CIMultiDict()
    for name, value in headers.items():
        for each in value if isinstance(value, list) else [value]:
            sent.add(name, str(each))
    if body:
        sent.setdefault("Content-Type", "application/json")
    return web.Response(status=status, headers=sent, body=body.encode() if isinstance(body, str) else body)
