"""Declaring what an assignment asks, and judging what was seen: pure functions over records."""
