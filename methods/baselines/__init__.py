"""Common methods for comparison, one module each, with the same interface as the papers' methods."""
