"""A small synthetic corpus, its tokenizer and a tiny Whisper, so that nothing needs a network."""
