"""What an exported artifact computes, for a person: predictions on images, fixed filters."""
