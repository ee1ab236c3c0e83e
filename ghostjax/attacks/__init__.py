"""The cloud's attacks, from the features that crossed the cut back to a picture:
records, and one file an attack."""
