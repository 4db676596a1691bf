"""Messages: what failed, what was refused, what went into service. Each is sent once, by apprise."""

from pipelines.notifications.messages import Kind, Message
from pipelines.notifications.notifier import Delivery, Notifier

__all__ = ["Delivery", "Kind", "Message", "Notifier"]
