"""Throw-away tasks of other kinds than image classification, each one file, with a network and a method for them."""
