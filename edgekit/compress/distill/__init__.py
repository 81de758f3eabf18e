"""Distillation: a small model learns from the answers of a large one, and from what goes on inside it."""
