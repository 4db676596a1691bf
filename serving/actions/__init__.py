"""What requests have done, whether the API or a page asks for it."""
