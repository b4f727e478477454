"""Check a change of an environment before its deployment, as CloudFormation would carry it out."""
