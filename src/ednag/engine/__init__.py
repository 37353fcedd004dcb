"""The Lightning engine: the Trainer with the verbs, its callbacks and loggers."""
