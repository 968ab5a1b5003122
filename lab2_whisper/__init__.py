"""The Whisper lab: any Polish speech to shards, a fine-tuned model, and a page that transcribes."""

import os

# onnxruntime, by which voice is found, would else report its use to its maker over the network
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
