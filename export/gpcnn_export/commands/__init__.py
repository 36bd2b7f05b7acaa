"""The commands of the export: a folder per verb, its flags in `cli`."""
