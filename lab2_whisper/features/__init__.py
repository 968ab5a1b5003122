"""The feature pipeline: recordings and their texts to shards on the store."""
