"""The monthly cost of a load on AWS, and its cost if every write went to the database."""
