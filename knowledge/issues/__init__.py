"""Digests of GitHub threads in our own words, with their links."""
