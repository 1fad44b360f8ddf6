"""Canonical volumes in ArrayRecord shards with a manifest; splits by subject."""
