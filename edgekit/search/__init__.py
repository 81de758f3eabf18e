"""Searching for the best compression of a file, with proof."""
