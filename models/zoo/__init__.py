"""Architectures, one file each, found by name; `gossamer.models.export.ZooModel` says what a file gives."""
