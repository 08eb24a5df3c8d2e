"""Answers without a language model: computed, from the notes, or from quoted passages."""
