"""Monthly drops: a partition a month, from the delivery and its checks to a published decoder.

`embup_core.drops` does the work, as `embup monthly` has it; here is what starts it, and what Dagster shows.
"""
