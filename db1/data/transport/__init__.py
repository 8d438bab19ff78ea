"""A batch on its way from reader processes to the device."""
