"""What a user would pick instead of a paper: one module each, on the same interface."""
