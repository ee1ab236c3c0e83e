"""Hiding one picture in another: records, and one file a method."""
