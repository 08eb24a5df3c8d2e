"""The HTTP API and the web page: FastAPI over `Engine.answer`, and nothing of its own in between."""
