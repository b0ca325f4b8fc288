"""What result files say: tables of the paper, differences, sentences, the report. Begin at `results` and `report`."""
