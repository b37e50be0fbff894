"""Reports on bundles and training runs: evaluation, inspection, model card and plots."""
