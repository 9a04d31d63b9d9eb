"""MDPNet: multi-task learning with dual-pixel views."""
