"""What a record's key is made of: the content of files, and the code that computes an answer."""
