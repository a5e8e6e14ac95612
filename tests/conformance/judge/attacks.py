"""The rows of the list of attacks that a metadata client meets, under their numbers and names."""

CASES = []
