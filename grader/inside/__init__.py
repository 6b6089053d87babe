"""Everything that runs inside the box, next to student code; imports nothing else of this package. What it reports is a claim."""
