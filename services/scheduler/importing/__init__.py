"""Files of recipients, read as they come: CSV and NDJSON into recipients or what is wrong, in constant memory.

`reading` chooses and drives a reader · `text_lines`, `csv_record`, `columns`, `csv_reader` for CSV · `json_reader` for
NDJSON · `recipients` judges what a row says · `csv_writer`, `formulas`; all of these are pure · `http` files over HTTP.
"""
