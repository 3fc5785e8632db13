"""Load and run artifacts: numpy is all it needs."""

from .errors import GossamerError as GossamerError
