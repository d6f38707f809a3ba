"""The fresh process that decodes and scores, and what it measures."""
