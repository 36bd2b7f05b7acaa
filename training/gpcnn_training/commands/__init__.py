"""The commands of training: a folder per verb, its flags in `cli`."""
