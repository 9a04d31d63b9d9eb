"""IFAN: iterative filter-adaptive network."""
