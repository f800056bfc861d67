"""Data: where files are, download, images, archives, the feature cache."""
