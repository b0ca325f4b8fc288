"""What `reprkit.analysis.compare` is made of: who may be compared, paired predictions, trade-offs, seeds, and words."""
