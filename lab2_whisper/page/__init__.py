"""What the transcription page needs besides Streamlit."""
