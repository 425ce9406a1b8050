"""The Hugging Face Hub and other downloads."""
