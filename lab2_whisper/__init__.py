"""The Whisper lab: Polish speech to shards, a fine-tuned Whisper, and a page that transcribes."""
