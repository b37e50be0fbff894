"""The embedders VGGish and mini: download, install, choose and load them."""
