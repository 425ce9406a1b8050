"""Criss-cross attention put into other people's networks, and taken out again. Needs torch alone."""

from crisscross.surgery.insert import insert_attention, inserted_attention, remove_attention
from crisscross.surgery.inserted import InsertedAttention

__all__ = ["InsertedAttention", "insert_attention", "inserted_attention", "remove_attention"]
