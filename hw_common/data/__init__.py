"""Data: files of data sets, downloads, images, archives, the feature cache."""
