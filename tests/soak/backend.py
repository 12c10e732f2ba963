"""A backend that publishes: AWS's own SDK, invoking the app's publish function.

It asks again, with the same id, where it is not told what became of a message: then too it is sent once.
"""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from .accounts import PARTLY, UNAVAILABLE
from .history import JSON, History, Message, mark

FUNCTION = "channels-dev-publish"
ANSWER_S = 90
AT_ONCE = 4
ATTEMPTS = 3

KILLED = "Runtime.ExitError"
"""What Lambda tells who invokes a function whose process ends."""

THROTTLED = "TooManyRequestsException"
THROTTLED_PAUSE_S = 0.2

_CODES = {"StoreError": UNAVAILABLE, "PartlyDelivered": PARTLY, THROTTLED: UNAVAILABLE}


class Backend:
    """Publishes through the server at that address, and writes into the history what became of it."""

    def __init__(self, http: str, history: History) -> None:
        self._history = history
        self._threads = ThreadPoolExecutor(AT_ONCE)  # not those that the soak looks after the server with
        self._client: Any = boto3.client(
            "lambda",
            endpoint_url=http,
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
            config=Config(retries={"total_max_attempts": 1}, read_timeout=ANSWER_S, max_pool_connections=AT_ONCE),
        )

    def close(self) -> None:
        """Closes its connections, once all has been answered."""
        self._threads.shutdown()
        self._client.close()

    async def publish(self, message: Message) -> None:
        """Publishes, and asks again until it is told."""
        event = {"channel": message.channel, "message": message.body, "id": mark(message.number)}
        if message.excluded is not None:
            event["exclude"] = message.excluded.id
        message.sent_at = time.monotonic()
        self._history.published(message)
        code = None
        for _ in range(ATTEMPTS):
            answer = await asyncio.get_running_loop().run_in_executor(self._threads, self._invoke, event)
            if answer is None:
                continue
            if "errorType" in answer:
                code = _CODES.get(answer["errorType"], answer["errorType"])
                self._history.codes[code] += 1
                continue
            if not answer.get("already_sent"):
                self._history.answered(message.number, time.monotonic(), None, answer)
                return
            break
        # Of one that was sent already it is known only what the attempt was told that had begun to send it.
        if code is not None:
            self._history.answered(message.number, time.monotonic(), code)

    def _invoke(self, event: JSON) -> JSON:
        """What the function returned or raised; None where that is not known. Waits its turn where too many run."""
        deadline = time.monotonic() + ANSWER_S
        while True:
            try:
                answer = self._client.invoke(FunctionName=FUNCTION, Payload=json.dumps(event))
                return json.loads(answer["Payload"].read())
            except ClientError as error:
                code = error.response["Error"]["Code"]
                if code != THROTTLED or time.monotonic() > deadline:
                    return {"errorType": code}
                time.sleep(THROTTLED_PAUSE_S)
            except BotoCoreError:
                return None
