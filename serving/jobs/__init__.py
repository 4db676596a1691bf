"""Batch requests: what is known of them (model, store), what people query (history), who works (engine)."""
