"""Episodes as people watch them: recordings for the report, and `db1 play`."""
