"""The batch worker process and the protocol between it and the service."""
