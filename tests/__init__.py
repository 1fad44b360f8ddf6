"""Tests, and the checker of types and shapes that runs while they do."""

from beartype import BeartypeConf, beartype

# An int passes for a float, as everywhere else in Python.
checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
