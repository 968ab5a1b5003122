"""The Whisper lab: any Polish speech to shards, a fine-tuned model, and a page that transcribes."""
