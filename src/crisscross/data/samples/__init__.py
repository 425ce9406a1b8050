"""From a pair of files to the samples that a network is trained on."""
