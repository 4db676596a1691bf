"""How many threads a matrix product or a neighbour search may take: one, everywhere.

A second one doubles nothing here (the arrays are small) and takes the core that requests need.
"""

from __future__ import annotations

from threadpoolctl import threadpool_limits


def limit_math_threads() -> None:
    """Limit BLAS and OpenMP to one thread.

    OpenMP keeps the number per calling thread, so this runs at the start of every thread that computes, after
    the libraries it is about are loaded.
    """
    import faiss

    faiss.omp_set_num_threads(1)
    threadpool_limits(1)
