"""A small, faithful implementation of Amazon Data Firehose (Direct PUT to S3) for one machine."""
