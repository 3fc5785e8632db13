"""Passes that put a model in order; `prepare` runs them for the compiler."""

from ..preparing import prepare as prepare
