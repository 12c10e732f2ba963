"""Requests whose body cannot be read: its sender left, or said wrongly how it is encoded.

aiohttp takes what is raised then for the handler's own error, a 500 and a traceback in the log.
"""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler


@web.middleware
async def refuse_broken(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answers 400, which nobody may be there to read."""
    try:
        return await handler(request)
    except Exception as error:
        if error is not request.content.exception():
            raise
        response = web.json_response({"message": "The body cannot be read."}, status=HTTPStatus.BAD_REQUEST)
        response.force_close()
        return response
