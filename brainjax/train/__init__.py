"""Runs: state, step, loop, hooks, pretraining and fine-tuning."""
