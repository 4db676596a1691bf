"""The data debugger without a framework: what comes in, where it is kept, what people decide, what goes out.

`embup_core.debugging` analyses; this package imports data sets, asks for predictions, stores what an analysis
found, records reviews and exports data. `embup debug` and the service stand above it.
"""
