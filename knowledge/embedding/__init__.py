"""Turning texts into vectors: the bundled bilingual model and the ones a user may choose instead."""
