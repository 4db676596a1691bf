"""One folder a data set: databases that are written once and read by everyone, and two logs that grow."""
