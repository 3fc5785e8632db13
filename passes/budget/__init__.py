"""Choosing how each layer is compressed so that the whole fits a size, by measured output errors."""

from .fitting import Budget as Budget
from .fitting import fit_budget as fit_budget
