"""What the labs' monitors share; the store itself needs none of it."""
