"""The console: what the service is doing, and what a person can do about it."""
