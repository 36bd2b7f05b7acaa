"""What users hand in: pictures, .npz files, masks, streams of many pictures."""
