"""The compared systems: each one file with a class whose `restore(image, depth)` the evaluation calls."""
