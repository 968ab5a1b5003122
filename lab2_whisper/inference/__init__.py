"""The inference pipeline: any recording to text with times, and to subtitles."""
