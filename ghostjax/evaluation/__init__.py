"""What is measured of a defense and of an attack, and how sure it is."""
