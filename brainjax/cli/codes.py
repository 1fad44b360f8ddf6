"""The exit codes of every verb."""

GOOD, OURS, REFUSED = 0, 1, 2
