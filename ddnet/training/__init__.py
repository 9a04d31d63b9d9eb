"""How a network is trained: crops, losses, steps, checkpoints."""
