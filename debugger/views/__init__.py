"""What is shown of a data set: tables of rows, the map, classes, slices."""
