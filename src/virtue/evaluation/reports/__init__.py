"""What was found, for people: tables, plots, pages, and comparisons with other runs and the paper."""
