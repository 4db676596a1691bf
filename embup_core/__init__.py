"""The science and the formats of embup: source -> coordinates -> decoder -> artifact -> upsampler -> answer.

Imports neither Dagster nor Litestar. PyTorch, scikit-learn and matplotlib are imported only inside the
functions that fit or plot, so that loading and serving an artifact needs NumPy and a neighbour index alone.
"""
