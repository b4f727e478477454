"""The SELECTs of the read function, one visible statement per question; every value is bound."""
