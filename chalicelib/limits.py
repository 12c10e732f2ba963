"""AWS's published numbers, each with the page it is from. They cannot be configured away, so they are not settings."""

MESSAGE_BYTES = 131_072
"""The largest message, in bytes of UTF-8, in either direction: 128 KB.
https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-execution-service-websocket-limits-table.html
"""

CONNECTION_SECONDS = 7_200
"""How long API Gateway keeps a connection open: 2 hours. (same page)"""

BATCH_WRITE_ITEMS = 25
"""Items in one BatchWriteItem.
https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html
"""

SORT_KEY_BYTES = 1_024
"""The largest sort key, in bytes of UTF-8, of a table and of an index.
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
"""
