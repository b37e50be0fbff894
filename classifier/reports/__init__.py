"""Reports on bundles and training runs: evaluation, inspection, cards, figures."""
