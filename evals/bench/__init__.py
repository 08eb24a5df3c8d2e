"""Measurements of speed and load."""
