"""Universality: how close an arbitrary, untrained predictor comes to the optimal one. Begin at `score`."""
