"""The inference pipeline: from any recording to text with times, and to subtitles."""
