"""What blocks of every room are put together from."""
