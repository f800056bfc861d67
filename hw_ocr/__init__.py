"""Handwritten letters and words with CNNs, LSTMs and CRFs: dsl-2019-hw3."""
