"""The HTTP control of faults: look at the plan that runs, replace it, read what it has done.

Knows requests and answers; what a plan is and does is faults.py's. No page in a browser is answered (callers.py).
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from aiohttp import hdrs, web

from localaws import callers
from localaws.faults import Faults, Plan, PlanError

PATH = "/_faults"
HITS_PATH = f"{PATH}/hits"


class Control:
    """Answers requests about `faults`. `thaw` lets every frozen socket go on."""

    def __init__(self, faults: Faults, thaw: Callable[[], None]) -> None:
        self._faults = faults
        self._thaw = thaw

    async def respond(self, request: web.Request) -> web.Response | None:
        """The answer to a request; None if it is for somebody else."""
        if request.path not in {PATH, HITS_PATH}:
            return None
        if callers.may_be_a_page(request):
            return _refusal(HTTPStatus.FORBIDDEN, "Faults are for this machine's own programs, not for pages.")
        try:
            return await self._respond(request)
        except PlanError as error:
            return _refusal(HTTPStatus.BAD_REQUEST, str(error))

    async def _respond(self, request: web.Request) -> web.Response:
        if request.path == HITS_PATH:
            return self._hits(request) if request.method == "GET" else _not_allowed("GET")
        if request.method == "PUT":
            self._faults.run(Plan.parse(await request.read()))
        elif request.method == "DELETE":
            self._faults.run(Plan(seed=self._faults.seed))
            self._thaw()
        elif request.method != "GET":
            return _not_allowed("GET, PUT, DELETE")
        return web.json_response({"seed": self._faults.seed, "rules": self._faults.rules()})

    def _hits(self, request: web.Request) -> web.Response:
        after = request.query.get("after", "0")
        if not (after.isascii() and after.isdigit() and len(after) < 20):  # noqa: PLR2004  beyond any number of hits
            raise PlanError(f"after takes the number of a hit, not {after[:50]!r}.")
        last, hits = self._faults.hits(int(after))
        return web.json_response({"last": last, "hits": [hit.as_json() for hit in hits]})


def _not_allowed(methods: str) -> web.Response:
    response = _refusal(HTTPStatus.METHOD_NOT_ALLOWED, f"This takes {methods}.")
    response.headers[hdrs.ALLOW] = methods
    return response


def _refusal(status: HTTPStatus, message: str) -> web.Response:
    return web.json_response({"message": message}, status=status)
