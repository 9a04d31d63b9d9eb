"""Checks against other people's software that are too heavy for every test run: `ddnet verify`."""
