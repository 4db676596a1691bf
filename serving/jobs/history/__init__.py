"""The published history of all batch jobs: Parquet files and a DuckDB snapshot."""
