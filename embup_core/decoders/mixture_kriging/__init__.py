"""A mixture of Gaussians over the originals, conditioned on z, and kriging of its residuals."""
