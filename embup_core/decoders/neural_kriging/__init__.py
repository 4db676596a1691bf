"""Kriging of the residuals of a neural trend."""
