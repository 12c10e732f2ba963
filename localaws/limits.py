"""Numbers that AWS publishes and these stand-ins keep, and those of our own that stand in for unpublished ones."""

from __future__ import annotations

# https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-execution-service-websocket-limits-table.html
MESSAGE_BYTES = 128 * 1024
INTEGRATION_TIMEOUT_S = 29

# https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html
HTTP_PAYLOAD_BYTES = 10 * 1024 * 1024

# https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html
STORE_REQUEST_BYTES = 16 * 1024 * 1024

# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
SYNCHRONOUS_PAYLOAD_BYTES = 6 * 1024 * 1024
ASYNCHRONOUS_PAYLOAD_BYTES = 1024 * 1024

# https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
ASYNCHRONOUS_ATTEMPTS = 3

# How much API Gateway keeps for a client that does not read is not published; that it is bounded is:
# https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-known-issues.html (LimitExceededException)
OUTGOING_BUFFER_BYTES = 1024 * 1024

# https://datatracker.ietf.org/doc/html/rfc6455#section-7.4.1
CLOSE_NORMAL = 1000
CLOSE_GOING_AWAY = 1001
CLOSE_UNSUPPORTED_DATA = 1003
CLOSE_NO_STATUS = 1005
CLOSE_ABNORMAL = 1006
CLOSE_TOO_BIG = 1009
