"""Data sets come in: one pass over a file, all its faults in one report, a whole data set or none."""
