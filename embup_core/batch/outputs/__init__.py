"""Writers of batch outputs: encoding, part files, and the publication of a finished file."""
