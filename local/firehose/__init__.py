"""A small, faithful Amazon Data Firehose (Direct PUT to S3) for one machine."""
