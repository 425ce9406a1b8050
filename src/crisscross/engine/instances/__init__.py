"""Train, evaluate and predict instances: Mask R-CNN with attention."""
