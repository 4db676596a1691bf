"""The geometry that the two input files determine: coordinates of the originals."""
