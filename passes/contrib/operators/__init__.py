"""One file for each family of operators; each is found by its file."""
