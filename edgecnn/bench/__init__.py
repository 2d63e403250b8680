"""How fast is it, how sure is that, and did it get slower? Sampling, statistics, records, comparison, budgets."""
