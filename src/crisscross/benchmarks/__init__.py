"""Measurements of whole systems; they return rows and print nothing."""
