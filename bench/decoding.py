"""`python -m bench.decoding`: CPU to read a page of 1,000 members out of DynamoDB's answer, by botocore and by ours."""

from __future__ import annotations

import cProfile
import json
import pstats
import time
from collections.abc import Callable
from typing import Any

from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.parsers import create_parser

from chalicelib.store import _take_page_as_it_is
from chalicelib.table import PAGE_MEMBERS

ROUNDS = 9

MEMBER = {
    "member": {"S": "7f#IU3kkeN4IAMCJwA="},
    "dialect": {"S": "text"},
    "joined_at": {"N": "1795604140084"},
    "channel": {"S": "news"},
    "connection_id": {"S": "IU3kkeN4IAMCJwA="},
    "at": {"N": "1795604140084"},
    "expires_at": {"N": "1795611340"},
}
PROJECTED = ("member", "dialect", "joined_at")


def main() -> None:
    model: Any = ServiceModel(Loader().load_service_model("dynamodb", "service-2"), "dynamodb")
    shape = model.operation_model("Query").output_shape
    parser: Any = create_parser("json")

    def botocore(body: bytes) -> Any:
        return parser.parse({"status_code": 200, "headers": {}, "body": body}, shape)

    def ours(body: bytes) -> Any:
        response: dict[str, Any] = {"status_code": 200, "headers": {}, "body": body}
        page: dict[str, Any] = {}
        _take_page_as_it_is(response, page)
        return {**parser.parse(response, shape), **page}

    projected = page_of(PROJECTED)
    rows = [
        ("whole items, botocore", botocore, page_of(tuple(MEMBER))),
        ("projected, botocore", botocore, projected),
        ("projected, ours", ours, projected),
    ]
    print(f"µs of CPU a member, of pages of {PAGE_MEMBERS:,}: the least of {ROUNDS} rounds, in turn\n")
    times: dict[str, list[float]] = {name: [] for name, _read, _body in rows}
    for _ in range(ROUNDS):
        for name, read, body in rows:
            times[name].append(cpu(read, body))
    for name, taken in times.items():
        print(f"  {name:<24} {min(taken) * 1e6 / PAGE_MEMBERS:5.1f}")
    print("\nWhere botocore spends it, projected:")
    profile = cProfile.Profile()
    profile.runcall(botocore, projected)
    pstats.Stats(profile).sort_stats("tottime").print_stats(4)


def page_of(attributes: tuple[str, ...]) -> bytes:
    """What DynamoDB answers, with those attributes of each member."""
    items = [{name: MEMBER[name] for name in attributes}] * PAGE_MEMBERS
    return json.dumps({"Items": items, "Count": PAGE_MEMBERS, "ScannedCount": PAGE_MEMBERS}).encode()


def cpu(read: Callable[[bytes], Any], body: bytes) -> float:
    began = time.process_time()
    read(body)
    return time.process_time() - began


if __name__ == "__main__":
    main()
