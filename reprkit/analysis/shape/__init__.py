"""Size, shape and order of a frozen representation, and the likeness of two. Begin at `table` and `catalogue`."""
