"""Other people's checkpoints in, and ours out, without their frameworks."""
