"""Foundation models of brain MRI: prepare, pretrain, fine-tune, answer."""

__version__ = "0.1.0.dev0"
