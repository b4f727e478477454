"""The SELECTs of the read function, one readable statement per purpose; every value is bound."""
