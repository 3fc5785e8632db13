"""What compression costs: bytes against score of real models on real data; writes docs/compression.md."""
