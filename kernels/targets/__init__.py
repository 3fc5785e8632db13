"""Machines that code is generated for."""

from .base import Target as Target
from .base import find_target as find_target
from .base import target_names as target_names
