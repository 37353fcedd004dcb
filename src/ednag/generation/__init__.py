"""Generation: a run from noise to a report, comparisons of samplers, and collections of trainings."""
