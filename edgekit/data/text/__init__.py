"""Text: corpora, tokenisers, and the ids that models get."""
