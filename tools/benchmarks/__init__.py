"""The tables of docs/benchmarks.md: `python -m gossamer.tools.benchmarks FOLDER`.

Builds the zoo's models dense and pruned for every target in FOLDER, measures them beside their peers, keeps
each result there as JSON, and writes the page's tables from all results. Parts and models can be done alone.
"""
