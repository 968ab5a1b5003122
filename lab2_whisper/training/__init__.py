"""The training pipeline: shards to a fine-tuned, evaluated and registered model."""
