"""How workers hear of tasks: one contract (``base``), one module per kind of broker."""
