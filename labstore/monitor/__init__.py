"""What the labs' monitors and pages share. The store itself uses none of it."""
