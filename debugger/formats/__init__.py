"""Files of annotated rows: read record by record, checked, and written again in the shape they came in."""
