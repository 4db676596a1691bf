"""What labels say: a classifier that has not seen them, doubts about them, and which to ask for next."""
