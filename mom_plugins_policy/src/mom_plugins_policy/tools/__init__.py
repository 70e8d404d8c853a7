"""What people do with policies: explain, try, test and lay them out."""
