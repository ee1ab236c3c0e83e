"""What the edge does to a sensitive image before its features cross the cut: records,
and one file a defense."""
