"""Training the bundled embedding model; see `MODEL_CARD.md` for what each step brought."""
