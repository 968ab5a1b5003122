"""A small synthetic corpus and its tokenizer, so that everything runs without a network."""
