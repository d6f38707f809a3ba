"""Reported numbers and claims of papers, as data, and the records that answer them."""
