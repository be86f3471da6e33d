"""The recipe of the checkpoint: each stage's data and loss, and the loop that they share."""
