"""What the files in the models folder say."""
