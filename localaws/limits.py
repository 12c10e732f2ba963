"""Numbers that AWS publishes and these stand-ins keep, and those of our own that stand in for unpublished ones."""

from __future__ import annotations

# https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-execution-service-websocket-limits-table.html
MESSAGE_BYTES = 128 * 1024
FRAME_BYTES = 32 * 1024
CONNECTION_S = 2 * 60 * 60
IDLE_S = 10 * 60
URL_CHARACTERS = 4096
INTEGRATION_TIMEOUT_S = 29
CONNECTS_PER_SECOND = 500

# https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html
HTTP_PAYLOAD_BYTES = 10 * 1024 * 1024
REQUESTS_PER_SECOND = 10_000
REQUESTS_AT_ONCE = 5_000

# The errors' own text: "Signature expired: … (… - 5 min.)"
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-troubleshooting.html
SIGNATURE_WINDOW_S = 5 * 60

# https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html
STORE_REQUEST_BYTES = 16 * 1024 * 1024

# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
SYNCHRONOUS_PAYLOAD_BYTES = 6 * 1024 * 1024
ASYNCHRONOUS_PAYLOAD_BYTES = 1024 * 1024

# https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
ASYNCHRONOUS_REPEATS = 2

# How much API Gateway keeps for a client that does not read is not published; that it is bounded is:
# https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-known-issues.html (LimitExceededException)
OUTGOING_BUFFER_BYTES = 1024 * 1024

# https://datatracker.ietf.org/doc/html/rfc6455#section-7.4.1
CLOSE_NORMAL = 1000
CLOSE_GOING_AWAY = 1001
CLOSE_UNSUPPORTED_DATA = 1003
CLOSE_NO_STATUS = 1005
CLOSE_ABNORMAL = 1006
CLOSE_INVALID_TEXT = 1007
CLOSE_POLICY = 1008
