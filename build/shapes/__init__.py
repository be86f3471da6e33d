"""`shapes`: the small reference checkpoint, the world it draws, and the judge of its pictures."""
