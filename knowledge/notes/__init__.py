"""Authored bilingual notes, each claim tied to evidence in vLLM's source."""
