"""From object files to artifacts: linking, packing, and running other machines' code under emulation."""

from .artifact import build_artifact as build_artifact
from .artifact import fill_artifact as fill_artifact
