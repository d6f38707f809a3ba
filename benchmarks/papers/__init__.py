"""What papers report and claim, as data, and the records that answer them."""
