"""DMENet: a learned defocus map."""
