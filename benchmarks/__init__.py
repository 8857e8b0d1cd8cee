"""Speed comparisons with other programs, in alternating runs on one machine. Not part of the product."""
