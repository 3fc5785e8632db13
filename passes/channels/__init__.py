"""Which channels of a model may change places, and the order that suits pruning in groups."""
