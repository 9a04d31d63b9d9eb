"""Measuring: restored images against their targets, and networks' sizes."""
