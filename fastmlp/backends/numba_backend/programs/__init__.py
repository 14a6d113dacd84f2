"""What runs in compiled code: training, predictions of many rows and of one, and updates."""
