"""`mom explain`: the reasons of a guest's size."""
