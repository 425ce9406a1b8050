"""The Hugging Face Hub, and downloads of published files."""
