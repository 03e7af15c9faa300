"""The cases of the contract suite, one file for each subject."""
