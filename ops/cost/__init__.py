"""What a load costs a month on AWS, and what it would cost if every write went to the database."""
