"""What every stage runs on: files, finished work, processes, ranks, the training loop."""
