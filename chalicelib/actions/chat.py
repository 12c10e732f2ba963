"""The worked example of a custom action: a chat message that says who sent it.

{"action":"chat","message":m,"channel"?:c} -> {"action":"chat","channel":c,"from":id,"message":m} to the others
"""

from __future__ import annotations

from .call import Call


def chat(call: Call) -> None:
    """Sends the message, with its channel and sender, to everyone else in the channel."""
    channel = call.channel()
    call.publish(
        channel,
        {"action": "chat", "channel": channel, "from": call.sender, "message": call.frame.value("message")},
    )
