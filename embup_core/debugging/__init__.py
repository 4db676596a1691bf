"""Where a data set is wrong and where a decoder is: scores of rows, slices of them, and findings."""
