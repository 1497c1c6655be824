"""What every part stands on: noise, draws, the wording of errors, names of families."""
