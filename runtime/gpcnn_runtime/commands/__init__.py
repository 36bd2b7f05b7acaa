"""The commands of the runtime: a folder per verb, its flags in `cli`. Commands import nothing of each other."""
