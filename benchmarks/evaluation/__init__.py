"""The fresh process that decodes and scores, and its measurements."""
