"""Instance segmentation: Mask R-CNN with criss-cross attention, a task built on `crisscross.engine.task`."""
