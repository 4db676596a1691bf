"""The OpenAPI description of the service, its examples and its page."""
