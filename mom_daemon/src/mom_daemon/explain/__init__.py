"""`mom explain`: the reasons for a guest's size."""
