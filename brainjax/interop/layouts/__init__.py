"""The layouts of other packages: one file a family, one row in `LAYOUTS`."""
