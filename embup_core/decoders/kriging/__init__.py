"""Kriging on a linear trend, with one length scale or a learned metric."""
