"""Channels as tutorials write them: a table keyed by the connection, a scan for each message, one post at a time.

After https://github.com/aws-samples/simple-websockets-chat-app and Chalice's own way to send, with boto3's session as
its documentation shows it (https://aws.github.io/chalice/topics/websockets.html). It takes the same two frames as
bench/fanout.py sends to Channels.
"""

from __future__ import annotations

import json
import os
from typing import Any

import boto3
from boto3.dynamodb.conditions import Attr
from chalice.app import Chalice, WebsocketDisconnectedError, WebsocketEvent

app = Chalice(app_name="tutorial")
app.experimental_feature_flags.update(["WEBSOCKETS"])
app.websocket_api.session = boto3.Session()

table = boto3.resource("dynamodb").Table(os.environ["TABLE_NAME"])

OK = {"statusCode": 200}


@app.on_ws_connect()
def websocket_connect(event: WebsocketEvent) -> dict[str, int]:
    query = event.to_dict().get("queryStringParameters") or {}
    table.put_item(Item={"connectionId": event.connection_id, "channel": query.get("room", "")})
    return OK


@app.on_ws_message()
def websocket_message(event: WebsocketEvent) -> dict[str, int]:
    frame = json.loads(event.body)
    delivered = 0
    scan: dict[str, Any] = {"FilterExpression": Attr("channel").eq(frame["channel"])}
    while True:
        page = table.scan(**scan)
        for item in page["Items"]:
            try:
                app.websocket_api.send(str(item["connectionId"]), frame["message"])
                delivered += 1
            except WebsocketDisconnectedError:
                table.delete_item(Key={"connectionId": item["connectionId"]})
        if "LastEvaluatedKey" not in page:
            break
        scan["ExclusiveStartKey"] = page["LastEvaluatedKey"]
    app.websocket_api.send(event.connection_id, json.dumps({"type": "ack", "delivered": delivered}))
    return OK


@app.on_ws_disconnect()
def websocket_disconnect(event: WebsocketEvent) -> dict[str, int]:
    table.delete_item(Key={"connectionId": event.connection_id})
    return OK
