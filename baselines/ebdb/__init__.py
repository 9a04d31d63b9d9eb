"""EBDB: edge-based defocus blur."""
