"""What a search leaves on disk. The schema is in docs/results.md."""
