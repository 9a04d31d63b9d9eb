"""What several baselines share: deconvolution, training, weights."""
