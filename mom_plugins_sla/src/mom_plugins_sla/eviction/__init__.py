"""Steps on guests of a full host: pause, save, shut down, move."""
