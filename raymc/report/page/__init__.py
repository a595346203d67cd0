"""One self-contained page of a sweep: its matrix, paths and tables, for a browser without any network."""
