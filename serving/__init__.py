"""The HTTP service: a thin Litestar shell around a loaded upsampler, the gate and the batch jobs."""
